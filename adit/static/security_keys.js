/* Forms that add or use a security key (WebAuthn). Their button is shown only where it works. */
"use strict";

for (const form of document.querySelectorAll("form[data-security-key]")) {
  if (!window.isSecureContext || !webauthnJSON.supported()) continue;
  const button = form.querySelector("button");
  const busy = form.querySelector("[data-key-busy]");
  const failed = form.querySelector("[data-key-failed]");
  button.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    busy.hidden = false;
    failed.hidden = true;
    try {
      const options = JSON.parse(form.dataset.options);
      const credential = await webauthnJSON[form.dataset.securityKey](options);
      form.elements.credential.value = JSON.stringify(credential);
      form.submit();
    } catch {
      busy.hidden = true;
      failed.hidden = false;
      button.disabled = false;
    }
  });
}
