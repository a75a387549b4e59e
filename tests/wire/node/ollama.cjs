// The unmodified ollama package: chat, stream, tools, generate, created models, errors.
const assert = require('node:assert/strict');
const { Ollama } = require('ollama');

const MODEL = 'mlxr-demo';
const WHO = [{ role: 'user', content: 'Who are you?' }];
const WEATHER = {
  name: 'get_weather',
  description: 'Get the weather for a place',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'Name of the city' } },
    required: ['city'],
  },
};

async function main(url) {
  const client = new Ollama({ host: url });
  const listed = await client.list();
  assert(listed.models.some((model) => model.name === MODEL + ':latest'));
  const shown = await client.show({ model: MODEL });
  assert(shown.capabilities.includes('tools'));

  const asked = { model: MODEL, messages: WHO, options: { temperature: 0 } };
  const whole = await client.chat(asked);
  assert.match(whole.message.content, /mlxr-demo/);
  let text = '';
  let last;
  for await (const part of await client.chat({ ...asked, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, whole.message.content);
  assert.equal(last.eval_count, whole.eval_count);

  const called = await client.chat({
    ...asked,
    messages: [{ role: 'user', content: 'weather in Accra' }],
    tools: [{ type: 'function', function: WEATHER }],
  });
  assert.deepEqual(called.message.tool_calls[0].function.arguments, { city: 'Accra' });

  const generated = await client.generate({
    model: MODEL,
    prompt: 'Once upon a time',
    raw: true,
    options: { num_predict: 5 },
  });
  assert.equal(generated.eval_count, 5);

  const embedded = await client.embed({ model: MODEL, input: ['a fox', 'a lantern'] });
  assert.equal(embedded.embeddings.length, 2);
  const legacy = await client.embeddings({ model: MODEL, prompt: 'a fox' });
  assert.deepEqual(legacy.embedding, embedded.embeddings[0]);

  await client.create({ model: 'brief', from: MODEL, parameters: { num_predict: 2 } });
  assert.equal((await client.chat({ model: 'brief', messages: WHO })).eval_count, 2);
  await client.delete({ model: 'brief' });
  await assert.rejects(client.show({ model: 'brief' }), /brief/);
}

main(process.argv[2]);
