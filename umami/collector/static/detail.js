// The detail view: the exact JSON of an event, and the request that it came in.

const byId = (id) => document.getElementById(id);

// Characters that are not seen, or that change the order of others: controls, and marks of direction.
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff]/gu;

// Returns a text in which each character is seen, and nothing can reorder what is around it.
export function visible(text) {
  return String(text).replace(UNSEEN, (each) => `\\u${each.codePointAt(0).toString(16).padStart(4, '0')}`);
}

// Returns JSON with line breaks and indentation. Its tokens stay exactly as they are: a number of
// 30 digits, say, which JSON.parse would round.
export function indented(json) {
  const parts = [];
  let depth = 0;
  const line = () => `\n${'  '.repeat(Math.min(depth, 40))}`;
  const tokens = json.match(/"(?:[^"\\]|\\.)*"?|[{}[\],:]|[^\s"{}[\],:]+/gs) ?? [];
  tokens.forEach((token, index) => {
    const next = tokens[index + 1];
    if (token === '{' || token === '[') {
      depth += 1;
      parts.push(token, next === '}' || next === ']' ? '' : line());
    } else if (token === '}' || token === ']') {
      depth -= 1;
      const former = tokens[index - 1];
      parts.push(former === '{' || former === '[' ? '' : line(), token);
    } else if (token === ',') parts.push(token, line());
    else if (token === ':') parts.push(': ');
    else parts.push(token);
  });
  return parts.join('');
}

function make(tag, text, className = '') {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = visible(text);
  if (className) element.className = className;
  return element;
}

function facts(pairs) {
  const list = make('dl');
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== '') list.append(make('dt', name), make('dd', value));
  }
  return list;
}

function block(text) {
  const element = make('pre', text);
  element.tabIndex = 0;
  return element;
}

export class Detail {
  // `closed` is called after it was closed.
  constructor(closed) {
    this.element = byId('detail');
    this.closed = closed;
    this.json = '';
    this.wanted = null;
    byId('close').addEventListener('click', () => this.close());
    byId('copy').addEventListener('click', () => this.copy());
    this.element.addEventListener('keydown', (event) => event.key === 'Escape' && this.close());
  }

  async open(entry) {
    this.wanted = entry.id;
    this.element.hidden = false;
    byId('detail-title').textContent = visible(entry.values.name || entry.values.url || entry.kind);
    let shown;
    try {
      const answer = await fetch(`/collector/entries/${entry.id}`);
      const detail = await answer.json();
      shown = answer.ok ? this.content(detail) : [make('p', detail.error)];
    } catch {
      shown = [make('p', 'The collector does not answer. It has probably stopped.')];
    }
    if (this.wanted === entry.id) byId('detail-body').replaceChildren(...shown);
  }

  content(detail) {
    const { request } = detail;
    this.json = detail.json || request.body;
    const parts = [];
    if (detail.reason) parts.push(make('p', detail.reason, `why ${detail.verdict}`));
    parts.push(facts([
      ['Result', detail.status ? `${detail.verdict}, ${detail.status}` : detail.verdict],
      ['Kind', detail.kind],
      ['Arrived', new Date(detail.at * 1000).toISOString()],
      ['Session', detail.session],
    ]));
    if (detail.json) parts.push(make('h3', 'Event'), block(indented(detail.json)));
    parts.push(
      make('h3', 'Request'),
      facts([
        ['Request', `${request.method} ${request.path}`],
        ['Answer', request.status ?? 'none yet, or the connection was cut'],
        ['From', request.client],
        ['Position', detail.index === null ? '' : `event ${detail.index + 1} of the batch`],
        ...request.headers,
      ]),
      make('h3', `Body, ${request.bytes.toLocaleString()} bytes${request.is_cut ? ', the beginning' : ''}`),
      block(request.body),
    );
    return parts;
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.json);
      byId('announce').textContent = 'Copied.';
    } catch {
      byId('announce').textContent = 'The browser does not allow copying here.';
    }
  }

  close() {
    this.wanted = null;
    this.element.hidden = true;
    this.closed();
  }
}
