// The unmodified @anthropic-ai/sdk package: messages, stream, tools, counting, errors.
const assert = require('node:assert/strict');
const Anthropic = require('@anthropic-ai/sdk');

const MODEL = 'mlxr-demo';
const WHO = [{ role: 'user', content: 'Who are you?' }];
const WEATHER = {
  name: 'get_weather',
  description: 'Get the weather for a place',
  input_schema: {
    type: 'object',
    properties: { city: { type: 'string', description: 'Name of the city' } },
    required: ['city'],
  },
};

async function main(url) {
  const client = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 });
  const asked = { model: MODEL, messages: WHO, max_tokens: 100, temperature: 0 };
  const whole = await client.messages.create(asked);
  assert.match(whole.content[0].text, /mlxr-demo/);
  assert.equal(whole.stop_reason, 'end_turn');

  let text = '';
  const stream = client.messages.stream(asked).on('text', (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, whole.content[0].text);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);

  const called = await client.messages
    .stream({
      ...asked,
      messages: [{ role: 'user', content: 'weather in Accra' }],
      tools: [WEATHER],
    })
    .finalMessage();
  const call = called.content.find((block) => block.type === 'tool_use');
  assert.deepEqual([call.name, call.input], ['get_weather', { city: 'Accra' }]);
  assert.equal(called.stop_reason, 'tool_use');

  const count = await client.messages.countTokens({ model: MODEL, messages: WHO });
  assert.equal(count.input_tokens, 14);
  await assert.rejects(
    client.messages.create({ ...asked, model: 'mlxr-dem' }),
    Anthropic.NotFoundError,
  );
}

main(process.argv[2]);
