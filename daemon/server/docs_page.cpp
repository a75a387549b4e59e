#include "daemon/server/docs_page.h"

namespace mlxr {
namespace {

// Everything that is shown goes in as text, never as markup.
constexpr const char* kPage = R"HTML(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MLXR API</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --soft: #8882; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  code, pre { font: 13px/1.45 ui-monospace, monospace; }
  details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .3rem .7rem; }
  details details { border: 0; border-left: 2px solid var(--line); border-radius: 0; margin: .1rem 0; }
  summary { cursor: pointer; }
  .method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
  .soft { opacity: .7; }
  .required { font-weight: 600; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem .6rem; }
  pre { background: var(--soft); padding: .6rem; border-radius: 6px; overflow: auto; }
</style>
</head>
<body>
<h1>MLXR API</h1>
<p class="soft">Made from <a href="openapi.json">openapi.json</a>, which this server makes from the
table by which it answers.</p>
<input id="filter" placeholder="Filter: a path, a method, a word" aria-label="Filter">
<main id="operations"><p>Loading</p></main>
<script>
'use strict';
const element = (tag, text, name) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
};
let description;
const resolved = (schema) => schema && schema.$ref
  ? description.components.schemas[schema.$ref.split('/').pop()] : schema || {};
const typeOf = (schema) => {
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(' | ');
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(resolved(one))).join(' or ');
  let text = [].concat(schema.type || 'anything').join(' or ');
  if (schema.items) text += ' of ' + typeOf(resolved(schema.items));
  if ('minimum' in schema) text += ` from ${schema.minimum} to ${schema.maximum}`;
  return schema.title || text;
};
const shapes = (schema) => {
  const whole = resolved(schema);
  if (whole.properties) return [whole];
  if (whole.items) return shapes(whole.items);
  return (whole.anyOf || []).flatMap(shapes);
};
const properties = (schema, into) => {
  for (const shape of shapes(schema)) {
    for (const [name, property] of Object.entries(shape.properties)) {
      const needed = (shape.required || []).includes(name);
      const line = [element('code', name, needed ? 'required' : ''),
                    element('span', ' ' + typeOf(resolved(property)), 'soft')];
      const holder = element(shapes(property).length ? 'details' : 'div');
      if (holder.tagName === 'DETAILS') {
        const head = element('summary');
        head.append(...line);
        holder.append(head);
        properties(property, holder);
      } else {
        holder.append(...line);
      }
      into.append(holder);
    }
  }
};
const body = (title, content, into) => {
  for (const [type, medium] of Object.entries(content || {})) {
    const holder = element('details');
    const named = medium.schema && medium.schema.$ref;
    holder.append(element('summary', `${title}: ${type}`
      + (named ? ` (${medium.schema.$ref.split('/').pop()})` : '')));
    properties(medium.schema, holder);
    into.append(holder);
  }
};
const operation = (method, path, about) => {
  const holder = element('details');
  const head = element('summary');
  head.append(element('span', method.toUpperCase(), 'method'), element('code', path),
              element('span', '  ' + about.summary, 'soft'));
  holder.append(head);
  holder.append(element('p', about['x-scope']
    ? `Where API keys are asked for: one with the scope "${about['x-scope']}".`
    : 'Never needs an API key.', 'soft'));
  body('Request', (about.requestBody || {}).content, holder);
  body('Answer', about.responses['2XX'].content, holder);
  holder.dataset.text = `${method} ${path} ${about.summary}`.toLowerCase();
  return holder;
};
fetch('openapi.json').then((answer) => answer.json()).then((document_) => {
  description = document_;
  const all = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => operation(method, path, about)));
  const place = document.getElementById('operations');
  place.replaceChildren(...all);
  document.getElementById('filter').addEventListener('input', (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const one of all) one.hidden = !one.dataset.text.includes(wanted);
  });
}).catch((problem) => {
  document.getElementById('operations').replaceChildren(
    element('p', 'The description could not be read: ' + problem));
});
</script>
</body>
</html>
)HTML";

}  // namespace

Response docs_page() {
  Response response;
  response.content_type = "text/html; charset=utf-8";
  response.body = kPage;
  response.headers.emplace_back(
      "Content-Security-Policy",
      "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  return response;
}

}  // namespace mlxr
