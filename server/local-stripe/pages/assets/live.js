// Keeps the regions marked data-live as the server would render them now: asks for the same page every second
// (304 when nothing changed), and swaps the regions that differ. Focus, open details and typed text survive.

const every = 1000;
const shownMs = 6000;
const state = document.querySelector('[data-live-state]');
const said = document.querySelector('[data-said]');
const WORDS = { live: 'Live', stopped: 'Not reachable, trying again', paused: 'Paused' };
let etag = '';
let running = false;
let paused = false;
/** The regions as the server sent them last: what stands in the page may hold words of ours. */
const rendered = new Map();
/** What the last actions came to, by the id of the button that was pressed. */
const outcomes = new Map();

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

function show(name) {
  const next = paused ? 'paused' : name;
  if (!state || state.dataset.liveState === next) return;
  state.dataset.liveState = next;
  state.textContent = WORDS[next];
}

function swap(fresh) {
  for (const region of document.querySelectorAll('[data-live]')) {
    const next = fresh.getElementById(region.id);
    if (!next || (rendered.get(region.id) ?? region.innerHTML) === next.innerHTML || busyIn(region)) continue;
    rendered.set(region.id, next.innerHTML);
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
  for (const [id, outcome] of outcomes) place(document.getElementById(id), outcome);
}

// Someone who types into a field, or marks text to copy it, is not interrupted.
function busyIn(region) {
  const active = document.activeElement;
  if (region.contains(active) && active?.matches('input:not([type=hidden]), select, textarea')) return true;
  const marked = getSelection();
  return marked !== null && !marked.isCollapsed && region.contains(marked.anchorNode);
}

/** Says what an action came to: beside its button for those who see it, and aloud for those who do not. */
function tell(button, message, good) {
  if (said) {
    // The same words twice are a change as well.
    said.textContent = '';
    setTimeout(() => {
      said.textContent = message;
    }, 50);
  }
  if (!button) return;
  const outcome = { message, good, until: Date.now() + shownMs };
  if (button.id) outcomes.set(button.id, outcome);
  place(button, outcome);
  setTimeout(() => {
    if (outcomes.get(button.id) === outcome) outcomes.delete(button.id);
    for (const old of document.querySelectorAll('.said'))
      if (Number(old.dataset.until) <= Date.now()) old.remove();
  }, shownMs + 50);
}

function place(button, { message, good, until }) {
  if (!button) return;
  let words = button.nextElementSibling;
  if (!words?.matches('.said')) {
    words = document.createElement('span');
    button.after(words);
  }
  words.className = good ? 'said' : 'said bad';
  words.dataset.until = String(until);
  // It is read aloud from the page's one status line.
  words.setAttribute('aria-hidden', 'true');
  words.textContent = message;
}

// Forms marked data-quiet are sent in the background, so that the page keeps its place.
document.addEventListener('submit', async (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.matches('[data-quiet]')) return;
  event.preventDefault();
  if (form.dataset.sent === 'yes') return;
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
  form.dataset.sent = 'yes';
  const button = event.submitter;
  try {
    const body = new URLSearchParams([...new FormData(form, button)].map(([k, v]) => [k, String(v)]));
    const answer = await fetch(form.action, { method: 'POST', body });
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const why = page.querySelector('main p')?.textContent || 'That did not work.';
    tell(button, answer.ok ? form.dataset.done || 'Done.' : why, answer.ok);
    etag = '';
    if (document.activeElement instanceof HTMLElement && form.contains(document.activeElement)) {
      if (!document.activeElement.id) document.activeElement.blur();
    }
    await refresh();
  } catch {
    tell(button, 'The local Stripe did not answer.', false);
  } finally {
    delete form.dataset.sent;
  }
});

document.addEventListener('click', async (event) => {
  const button = event.target instanceof Element ? event.target.closest('[data-copy]') : null;
  if (!(button instanceof HTMLElement)) return;
  const text = document.getElementById(button.dataset.copy ?? '')?.textContent ?? '';
  try {
    await navigator.clipboard.writeText(text);
    tell(button, 'Copied.', true);
  } catch {
    tell(button, 'Not copied: mark the line and copy it yourself.', false);
  }
});

const pause = document.querySelector('[data-pause]');
pause?.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  show('live');
  if (!paused) void refresh();
});

setInterval(refresh, every);
document.addEventListener('visibilitychange', refresh);
void refresh();
