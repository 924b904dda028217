// The page: what the collector sends, the filters, and the buttons.

import { Detail, visible } from './detail.js';
import { Grid } from './grid.js';

const byId = (id) => document.getElementById(id);
const VERDICTS = ['stored', 'rejected', 'bot', 'fault'];
const BARS = 60;

let kept = 10000;
let run = null;
let paused = false;
let held = 0; // how many arrived since the pause
let entries = []; // oldest first
let state = null;
let said = '';

const detail = new Detail(() => {
  byId('grid').classList.remove('narrow');
  byId('grid').focus();
});
const grid = new Grid(byId('grid'), (entry) => {
  byId('grid').classList.add('narrow');
  detail.open(entry);
});

// Filters.

const filters = () => ({
  search: byId('search').value.trim().toLowerCase(),
  verdict: byId('verdict').value,
  kind: byId('kind').value,
});

const texts = new WeakMap();

function textOf(entry) {
  let text = texts.get(entry);
  if (text === undefined) {
    text = Object.values(entry.values).join('\n').toLowerCase();
    texts.set(entry, text);
  }
  return text;
}

function filtered() {
  const { search, verdict, kind } = filters();
  const words = search.split(/\s+/).filter(Boolean);
  return entries.filter((entry) => (!verdict || entry.verdict === verdict)
    && (!kind || entry.kind === kind)
    && words.every((word) => textOf(entry).includes(word))).reverse();
}

function show() {
  if (!state) return;
  const rows = filtered();
  const isEmpty = entries.length === 0;
  byId('empty').hidden = !isEmpty;
  byId('none').hidden = isEmpty || rows.length > 0;
  byId('grid').hidden = rows.length === 0;
  grid.show(rows);
  const total = VERDICTS.reduce((sum, verdict) => sum + state.counts[verdict], 0);
  const gone = total - entries.length - held;
  let text = `${rows.length.toLocaleString()} of ${entries.length.toLocaleString()} shown. `
    + `The collector keeps the latest ${kept.toLocaleString()}`;
  text += gone > 0 ? `; ${gone.toLocaleString()} older ones are gone.` : '.';
  if (held) text += ` Paused: ${held.toLocaleString()} new.`;
  byId('shown').textContent = text;
  const query = new URLSearchParams(Object.entries(filters()).filter(([, value]) => value));
  byId('export').href = `/collector/export${query.size ? `?${query}` : ''}`;
}

// At most once a frame, however many messages arrive.
let isPlanned = false;
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    if (!paused) show();
  });
}

// What the collector sends.

let waiting = []; // what arrived during a pause

function take(message) {
  if (message.run !== run) {
    run = message.run;
    entries = [];
    waiting = [];
    held = 0;
    if (!detail.element.hidden) detail.close();
  }
  state = message.state;
  kept = state.kept;
  if (paused) {
    waiting.push(...message.entries);
    held += message.entries.length;
    if (waiting.length > kept) waiting = waiting.slice(-kept);
    if (message.entries.length) show();
  } else if (message.entries.length) {
    entries.push(...message.entries);
  }
  // Fewer than `kept` are there if their bodies are long, but then those here are short.
  if (entries.length > kept) entries = entries.slice(-kept);
  drawState();
  plan();
}

function connect() {
  const source = new EventSource('/collector/stream');
  source.addEventListener('open', () => connected(true));
  source.addEventListener('message', (event) => {
    connected(true);
    take(JSON.parse(event.data));
  });
  source.addEventListener('error', () => {
    connected(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function connected(isThere) {
  const text = isThere ? `Live at ${location.host}` : 'The collector does not answer. It has probably stopped.';
  if (byId('connection').textContent === text) return;
  byId('connection').textContent = text;
  byId('connection').classList.toggle('lost', !isThere);
}

// Counts, chart, faults.

function drawState() {
  byId('version').textContent = `Umami ${state.version}`;
  for (const verdict of VERDICTS) byId(`count-${verdict}`).textContent = state.counts[verdict].toLocaleString();
  drawChart();
  drawFaults();
}

function drawChart() {
  if (!state) return;
  const { step } = state;
  const last = Math.floor(Date.now() / 1000 / step) * step;
  const sums = state.chart.map(([, counts]) => VERDICTS.reduce((sum, verdict) => sum + counts[verdict], 0));
  const peak = Math.max(1, ...sums);
  const bars = [];
  for (const [start, counts] of state.chart) {
    const x = BARS - 1 - (last - start) / step;
    if (x < 0) continue;
    let top = 40;
    for (const verdict of VERDICTS) {
      if (!counts[verdict]) continue;
      const height = Math.max(1, (counts[verdict] / peak) * 40);
      top -= height;
      const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
      const size = { x: x * 4, y: top, width: 3, height };
      for (const [name, value] of Object.entries(size)) bar.setAttribute(name, value);
      bar.classList.add(verdict);
      bars.push(bar);
    }
  }
  const total = sums.reduce((sum, each) => sum + each, 0);
  const chart = byId('chart');
  chart.setAttribute('viewBox', `0 0 ${BARS * 4} 40`);
  chart.setAttribute('aria-label', `${total.toLocaleString()} in the last five minutes`);
  chart.replaceChildren(...bars);
  byId('peak').textContent = `at most ${(sums.length ? Math.max(...sums) : 0).toLocaleString()} in ${step} s`;
}

let faultText = '';

function drawFaults() {
  const list = state.faults.map(({ what, path, times, hits }) => {
    const left = times === null ? 'until cleared' : `${times - hits} left`;
    return `${what}${path === null ? '' : ` (${path})`}: ${left}`;
  });
  if (state.database === 'away') list.push('database away: until cleared');
  if (list.join('\n') === faultText) return;
  faultText = list.join('\n');
  byId('fault-note').textContent = list.length ? `: ${list.length} on` : '';
  byId('fault-list').replaceChildren(...list.map((text) => {
    const item = document.createElement('li');
    item.textContent = visible(text);
    return item;
  }));
}

async function post(path, body) {
  const options = { method: 'POST' };
  if (body) {
    options.headers = { 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  try {
    const answer = await fetch(path, options);
    const type = answer.headers.get('Content-Type') ?? '';
    if (answer.ok) byId('fault-error').textContent = '';
    else byId('fault-error').textContent = type.includes('json') ? (await answer.json()).error : await answer.text();
  } catch {
    connected(false);
  }
}

byId('fault-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const fault = JSON.parse(byId('fault-kind').value);
  const times = byId('fault-times').value;
  post('/collector/faults', fault.database ? fault : { ...fault, times: times ? Number(times) : null });
});
byId('fault-clear').addEventListener('click', () => post('/collector/faults', { clear: true }));

// Buttons and keys.

function pause() {
  paused = !paused;
  byId('pause').setAttribute('aria-pressed', paused);
  byId('pause').textContent = paused ? 'Resume' : 'Pause';
  if (!paused) {
    entries.push(...waiting);
    if (entries.length > kept) entries = entries.slice(-kept);
    waiting = [];
    held = 0;
    show();
  }
}

const THEMES = ['system', 'light', 'dark'];

function theme(name) {
  if (name === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId('theme').textContent = `Theme: ${name}`;
  localStorage.setItem('umami-collector-theme', name);
}

byId('pause').addEventListener('click', pause);
byId('clear').addEventListener('click', () => post('/collector/clear'));
byId('theme').addEventListener('click', () => {
  const now = document.documentElement.dataset.theme ?? 'system';
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
byId('filters').addEventListener('submit', (event) => event.preventDefault());
for (const id of ['search', 'verdict', 'kind']) byId(id).addEventListener('input', show);
document.addEventListener('keydown', (event) => {
  const isTyping = event.target.closest('input, select, textarea');
  if (event.key === 'Escape' && !detail.element.hidden) detail.close();
  else if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === '/') {
    event.preventDefault();
    byId('search').focus();
  } else if (event.key === 'p') pause();
});

// For screen readers, now and then: what is new.
setInterval(() => {
  if (!state) return;
  const parts = VERDICTS.filter((verdict) => state.counts[verdict]).map((verdict) => `${state.counts[verdict]} ${verdict}`);
  const text = parts.join(', ');
  if (text !== said) byId('announce').textContent = text;
  said = text;
}, 8000);
setInterval(drawChart, 5000);

const saved = localStorage.getItem('umami-collector-theme');
theme(THEMES.includes(saved) ? saved : 'system');
for (const each of document.querySelectorAll('.origin')) each.textContent = location.origin;
connect();
