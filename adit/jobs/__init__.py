"""Jobs and tasks: models, states, queue, kinds and their pages. Used by orders, results, worker."""
