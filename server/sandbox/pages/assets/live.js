// Keeps the regions marked data-live as the server would render them now: asks for the same page every second
// (304 when nothing changed), and swaps the regions that differ. Focus, open details and typed text survive.

const every = 1000;
const state = document.querySelector('[data-live-state]');
const said = document.querySelector('[data-said]');
let etag = '';
let running = false;
let paused = false;

async function refresh() {
  if (running || document.hidden || paused) return;
  running = true;
  try {
    const answer = await fetch(location.href, { headers: etag ? { 'if-none-match': etag } : {} });
    if (answer.status === 200) {
      etag = answer.headers.get('etag') ?? '';
      swap(new DOMParser().parseFromString(await answer.text(), 'text/html'));
    }
    show(answer.status === 200 || answer.status === 304 ? 'live' : 'stopped');
  } catch {
    show('stopped');
  } finally {
    running = false;
  }
}

function show(text) {
  if (!state || state.dataset.liveState === text) return;
  state.dataset.liveState = text;
  state.textContent = text === 'live' ? 'Live' : 'Not reachable, trying again';
}

function swap(fresh) {
  for (const region of document.querySelectorAll('[data-live]')) {
    const next = fresh.getElementById(region.id);
    if (!next || region.innerHTML === next.innerHTML || busyIn(region)) continue;
    const focused = region.contains(document.activeElement) ? document.activeElement?.id : '';
    const open = new Set([...region.querySelectorAll('details[open]')].map((details) => details.id));
    const scrolled = [...region.querySelectorAll('[data-scroll]')].map((box) => [box.id, box.scrollTop]);
    const shown = document.createElement('div');
    shown.innerHTML = next.innerHTML;
    for (const details of shown.querySelectorAll('details')) {
      // One that the server opens starts open; afterwards the person's choice counts.
      if (region.querySelector(`#${CSS.escape(details.id)}`)) details.open = open.has(details.id);
    }
    region.replaceChildren(...shown.childNodes);
    for (const [id, top] of scrolled) {
      const box = document.getElementById(id);
      if (box) box.scrollTop = top;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

// Someone who types into a field, or marks text to copy it, is not interrupted.
function busyIn(region) {
  const active = document.activeElement;
  if (region.contains(active) && active?.matches('input:not([type=hidden]), select, textarea')) return true;
  const marked = getSelection();
  return marked !== null && !marked.isCollapsed && region.contains(marked.anchorNode);
}

// Forms marked data-quiet are sent in the background, so that the page keeps its place.
document.addEventListener('submit', async (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.matches('[data-quiet]')) return;
  event.preventDefault();
  if (form.dataset.sent === 'yes') return;
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
  form.dataset.sent = 'yes';
  try {
    const body = new URLSearchParams(
      [...new FormData(form, event.submitter)].map(([k, v]) => [k, String(v)]),
    );
    const answer = await fetch(form.action, { method: 'POST', body });
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const message = answer.ok
      ? page.querySelector('.notice')?.textContent || 'Done.'
      : page.querySelector('main p')?.textContent || 'That did not work.';
    if (said) said.textContent = message;
    etag = '';
    if (document.activeElement instanceof HTMLElement && form.contains(document.activeElement)) {
      if (!document.activeElement.id) document.activeElement.blur();
    }
    await refresh();
  } catch {
    if (said) said.textContent = 'The local Stripe did not answer.';
  } finally {
    delete form.dataset.sent;
  }
});

document.addEventListener('click', async (event) => {
  const button = event.target instanceof Element ? event.target.closest('[data-copy]') : null;
  if (!(button instanceof HTMLElement)) return;
  const text = document.getElementById(button.dataset.copy ?? '')?.textContent ?? '';
  await navigator.clipboard.writeText(text);
  if (said) said.textContent = 'Copied.';
});

const pause = document.querySelector('[data-pause]');
pause?.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  if (!paused) void refresh();
});

setInterval(refresh, every);
document.addEventListener('visibilitychange', refresh);
void refresh();
