// The unmodified openai package: chat, stream, tools, completions, responses, errors.
const assert = require('node:assert/strict');
const OpenAI = require('openai');

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
  const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 });
  const models = await client.models.list();
  assert(models.data.some((model) => model.id === MODEL));

  const chat = { model: MODEL, messages: WHO, temperature: 0 };
  const whole = await client.chat.completions.create(chat);
  assert.match(whole.choices[0].message.content, /mlxr-demo/);
  let text = '';
  let usage;
  const stream = await client.chat.completions.create({
    ...chat,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);

  const runner = client.chat.completions.stream({
    model: MODEL,
    messages: [{ role: 'user', content: 'weather in Accra' }],
    tools: [{ type: 'function', function: WEATHER }],
    temperature: 0,
  });
  const [call] = (await runner.finalMessage()).tool_calls;
  assert.equal(call.function.name, 'get_weather');
  assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Accra' });

  const completion = await client.completions.create({
    model: MODEL,
    prompt: 'Once upon a time',
    max_tokens: 5,
  });
  assert.equal(completion.usage.completion_tokens, 5);

  const vectors = await client.embeddings.create({ model: MODEL, input: ['a fox', 'a lantern'] });
  assert.deepEqual(vectors.data.map((item) => item.index), [0, 1]);
  const length = Math.hypot(...vectors.data[0].embedding);
  assert(Math.abs(length - 1) < 1e-5);

  const response = await client.responses.create({
    model: MODEL,
    input: 'Who are you?',
    temperature: 0,
  });
  assert.equal(response.output_text, whole.choices[0].message.content);
  const events = client.responses.stream({
    model: MODEL,
    previous_response_id: response.id,
    input: 'Who are you?',
    temperature: 0,
  });
  let said = '';
  events.on('response.output_text.delta', (event) => (said += event.delta));
  const last = await events.finalResponse();
  assert.equal(said, last.output_text);
  assert(last.usage.input_tokens > response.usage.input_tokens);

  await assert.rejects(
    client.chat.completions.create({ ...chat, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === 'temperature',
  );
  await assert.rejects(client.models.retrieve('mlxr-dem'), OpenAI.NotFoundError);
}

main(process.argv[2]);
