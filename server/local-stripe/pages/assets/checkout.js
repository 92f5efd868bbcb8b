// The test cards fill in the form in place; without this file each of them is a link to the page filled in.

const form = document.querySelector('form[data-pay]');
const said = document.querySelector('[data-said]');

for (const button of document.querySelectorAll('[data-fill]')) {
  button.addEventListener('click', (event) => {
    if (!(form instanceof HTMLFormElement)) return;
    event.preventDefault();
    const method = form.querySelector(`[name=method][value="${button.dataset.method}"]`);
    if (method instanceof HTMLInputElement) method.checked = true;
    for (const [name, value] of new URLSearchParams(button.dataset.fill)) {
      const input = form.elements.namedItem(name);
      if (input instanceof HTMLInputElement) input.value = value;
    }
    for (const other of document.querySelectorAll('[data-fill]'))
      other.setAttribute('aria-pressed', String(other === button));
    if (said) said.textContent = `${button.dataset.name} filled in.`;
  });
}

// Card numbers in groups of four while typing, keeping the caret where the digits put it.
const number = form?.querySelector('[name=number]');
if (number instanceof HTMLInputElement) {
  number.addEventListener('input', () => {
    const caret = number.value.slice(0, number.selectionStart ?? 0).replace(/\D/g, '').length;
    number.value = number.value
      .replace(/\D/g, '')
      .slice(0, 19)
      .replace(/(\d{4})(?=\d)/g, '$1 ');
    let at = 0;
    for (let digits = 0; digits < caret && at < number.value.length; at++)
      if (/\d/.test(number.value[at] ?? '')) digits++;
    number.setSelectionRange(at, at);
  });
}
