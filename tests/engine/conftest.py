"""What the engine's tests share: made-up objects, found by name from any folder below."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))  # for the lab
