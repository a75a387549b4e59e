// Runs the script of /docs with as much of a document as it uses, and looks at what it made.
const assert = require('node:assert/strict');

class Element {
  constructor(tag) {
    Object.assign(this, { tagName: tag.toUpperCase(), children: [], dataset: {}, listeners: {} });
    this.textContent = '';
    this.hidden = false;
  }
  append(...more) {
    this.children.push(...more);
  }
  replaceChildren(...more) {
    this.children = more;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  text() {
    return [this.textContent, ...this.children.map((child) => child.text())].join(' ');
  }
}

async function main(url) {
  const page = await (await fetch(url + '/docs')).text();
  assert(!/https?:/.test(page), 'the page names another place');
  const places = { operations: new Element('main'), filter: new Element('input') };
  const document = {
    createElement: (tag) => new Element(tag),
    getElementById: (id) => places[id],
  };
  const description = await (await fetch(url + '/openapi.json')).json();
  let done;
  const finished = new Promise((resolve) => (done = resolve));
  const fetched = () => Promise.resolve({ json: async () => (setTimeout(done, 0), description) });
  const script = page.match(/<script>([^]*)<\/script>/)[1];
  new Function('document', 'fetch', script)(document, fetched);
  await finished;

  const wanted = Object.values(description.paths).flatMap((methods) => Object.keys(methods));
  assert.equal(places.operations.children.length, wanted.length);
  const all = places.operations.children.map((one) => one.text());
  const chat = all.find((text) => text.includes('POST /v1/chat/completions'));
  for (const field of ['messages', 'temperature', 'number or null from 0 to 2', 'tool_calls']) {
    assert(chat.includes(field), field);
  }
  places.filter.listeners.input({ target: { value: '/v1/RESPONSES' } });
  const shown = places.operations.children.filter((one) => !one.hidden);
  assert.equal(shown.length, 5);
}

main(process.argv[2]);
