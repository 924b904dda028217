// The table of events. Of 10,000 rows only those in sight are in the document.

import { visible } from './detail.js';

const ROW = 30; // pixels, as in page.css
const SPARE = 6; // rows above and below those in sight

export const COLUMNS = [
  ['time', 'Time', (entry) => clock(entry.at)],
  ['verdict', 'Result', (entry) => entry.verdict],
  ['kind', 'Kind', (entry) => entry.kind],
  ['name', 'Name', ({ values }) => values.name],
  ['url', 'Address', ({ values }) => values.url],
  ['website', 'Website', ({ values }) => values.website?.slice(0, 8)],
  ['visitor', 'Visitor', ({ values }) => [values.visitor, values.ip, values.agent].filter(Boolean).join(' · ')],
  ['referrer', 'Referrer', ({ values }) => values.referrer],
  ['tag', 'Tag', ({ values }) => values.tag],
  ['data', 'Data or reason', ({ values }) => [values.reason, values.data].filter(Boolean).join(' ')],
];

const time = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle: 'h23' });
const clock = (at) => time.format(new Date(at * 1000));

export class Grid {
  // `open` is called with the entry to show.
  constructor(element, open) {
    this.element = element;
    this.scroller = element.querySelector('#scroller');
    this.rows = element.querySelector('#rows');
    this.open = open;
    this.entries = [];
    this.chosen = null;
    this.drawn = new Map();
    element.querySelector('.head').append(...COLUMNS.map(([key, title]) => cell(key, title, 'columnheader')));
    element.setAttribute('aria-colcount', COLUMNS.length);
    this.scroller.addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.rows.addEventListener('click', (event) => {
      const row = event.target.closest('.row');
      if (row) this.choose(this.entries.findIndex((entry) => entry.id === Number(row.dataset.id)), true);
    });
    element.addEventListener('keydown', (event) => this.key(event));
  }

  // Shows these entries, latest first. What is in sight stays in sight, unless it is the top.
  show(entries) {
    const top = this.scroller.scrollTop;
    const first = this.entries[Math.floor(top / ROW)];
    this.entries = entries;
    this.rows.style.height = `${entries.length * ROW}px`;
    this.element.setAttribute('aria-rowcount', entries.length + 1);
    if (top >= ROW && first) {
      const index = this.indexOf(first.id);
      if (index >= 0) this.scroller.scrollTop = index * ROW + (top % ROW);
    }
    this.draw();
  }

  // Ids fall from the first entry to the last.
  indexOf(id) {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.entries[middle].id > id) low = middle + 1;
      else high = middle;
    }
    return this.entries[low]?.id === id ? low : -1;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(this.entries.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * SPARE);
    const former = this.drawn;
    this.drawn = new Map();
    const added = [];
    for (let index = first; index < last; index += 1) {
      const entry = this.entries[index];
      const row = former.get(entry.id) ?? makeRow(entry);
      if (!former.delete(entry.id)) added.push(row);
      row.style.top = `${index * ROW}px`;
      row.setAttribute('aria-rowindex', index + 2);
      row.setAttribute('aria-selected', entry.id === this.chosen);
      this.drawn.set(entry.id, row);
    }
    for (const row of former.values()) row.remove();
    this.rows.append(...added);
    const active = this.drawn.has(this.chosen) ? `row-${this.chosen}` : '';
    if (active) this.element.setAttribute('aria-activedescendant', active);
    else this.element.removeAttribute('aria-activedescendant');
  }

  choose(index, open = false) {
    if (!this.entries.length || index < 0) return;
    const at = Math.min(index, this.entries.length - 1);
    const entry = this.entries[at];
    this.chosen = entry.id;
    const { scrollTop, clientHeight } = this.scroller;
    if (at * ROW < scrollTop) this.scroller.scrollTop = at * ROW;
    else if ((at + 1) * ROW > scrollTop + clientHeight) this.scroller.scrollTop = (at + 1) * ROW - clientHeight;
    this.draw();
    if (open) this.open(entry);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = this.chosen === null ? -1 : this.indexOf(this.chosen);
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 1);
    const to = {
      ArrowDown: now + 1,
      ArrowUp: Math.max(0, now - 1),
      PageDown: now + page,
      PageUp: Math.max(0, now - page),
      Home: 0,
      End: this.entries.length - 1,
    }[event.key];
    if (to !== undefined) this.choose(to, !document.querySelector('#detail').hidden);
    else if (event.key === 'Enter' || event.key === ' ') this.choose(Math.max(0, now), true);
    else return;
    event.preventDefault();
  }
}

function cell(key, text, role) {
  const element = document.createElement('span');
  element.className = key;
  element.setAttribute('role', role);
  element.textContent = visible(text ?? '');
  return element;
}

function makeRow(entry) {
  const row = document.createElement('div');
  row.className = 'row';
  row.id = `row-${entry.id}`;
  row.dataset.id = entry.id;
  row.setAttribute('role', 'row');
  for (const [key, , value] of COLUMNS) {
    const each = cell(key, value(entry), 'gridcell');
    if (key === 'verdict' || (key === 'data' && entry.values.reason)) each.classList.add(entry.verdict);
    row.append(each);
  }
  return row;
}
