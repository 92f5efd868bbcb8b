// One submission per click: a form is locked while its request runs. The server is idempotent anyway; this
// spares the person the doubt. Coming back by the Back button unlocks it again.

for (const form of document.querySelectorAll('form[data-once]')) {
  form.addEventListener('submit', (event) => {
    if (form.dataset.sent === 'yes') {
      event.preventDefault();
      return;
    }
    form.dataset.sent = 'yes';
    const button = event.submitter;
    if (!(button instanceof HTMLButtonElement)) return;
    form.setAttribute('aria-busy', 'true');
    // Disabled in the next task: a disabled button's own name and value would not be sent.
    setTimeout(() => {
      button.disabled = true;
      if (button.dataset.busy) {
        button.dataset.idle = button.textContent ?? '';
        button.textContent = button.dataset.busy;
      }
    });
  });
}

window.addEventListener('pageshow', (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll('form[data-once]')) {
    delete form.dataset.sent;
    form.removeAttribute('aria-busy');
    for (const button of form.querySelectorAll('button[disabled]')) {
      button.disabled = false;
      if (button.dataset.idle) button.textContent = button.dataset.idle;
    }
  }
});

document.querySelector('[data-focus]')?.focus();
