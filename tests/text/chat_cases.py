# ruff: noqa: E501 (templates are written as models carry them)
"""Chat templates and conversations: the constructs that public models' templates are made of."""

USER = [{"role": "user", "content": "Hi there"}]
DIALOG = [
    {"role": "system", "content": "Be brief. <b>&\"'"},
    {"role": "user", "content": "Was ist 2+2? 你好 👍🏽"},
    {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
    {"role": "user", "content": "  And 3+3?\n"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a “city” — now\t<today>",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Name, e.g. Zürich"},
                    "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                    "units": {"enum": ["C", "F", None], "get": True, "keys": 1, "values": 2.0},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "noop", "parameters": {}, "strict": False}},
]
CALLS = [
    *DIALOG[:2],
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "a1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1]}},
            },
            {
                "id": "a2",
                "type": "function",
                "function": {"name": "noop", "arguments": '{"raw": 1.50}'},
            },
        ],
    },
    {"role": "tool", "tool_call_id": "a1", "name": "get_weather", "content": '{"t": -3.5}'},
    {"role": "tool", "tool_call_id": "a2", "name": "noop", "content": "ok"},
    {"role": "assistant", "content": "It is cold.", "tool_calls": []},
    {"role": "user", "content": "Thanks"},
]
PARTS = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look: "},
            {"type": "image"},
            {"type": "text", "text": "!"},
        ],
    }
]

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# System text merged into the first turn, strict alternation, an exception, trim.
BRACKETS = """\
{%- if messages[0]['role'] == 'system' -%}
  {%- set system_message = messages[0]['content'] | trim + '\\n\\n' -%}
  {%- set rest = messages[1:] -%}
{%- else -%}
  {%- set system_message = '' -%}
  {%- set rest = messages -%}
{%- endif -%}
{{ bos_token }}
{%- for message in rest %}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Roles must alternate: "user", "assistant", …') }}
  {%- endif %}
  {%- if message['role'] == 'user' %}
    {{- '[INST] ' + (system_message if loop.first else '') + message['content'] | trim + ' [/INST]' }}
  {%- elif message['role'] == 'assistant' %}
    {{- ' ' ~ message['content'] | trim ~ eos_token }}
  {%- endif %}
{%- endfor %}
"""

# Tools as indented JSON, header tokens, a date, set blocks, macros with defaults.
HEADERS = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- if tools_in_user_message is not defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- macro header(role, newlines=2) -%}
<|start|>{{ role }}<|end|>{{ '\\n' * newlines }}
{%- endmacro %}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0].content|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- header('system') }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}{{- system_message }}{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- header(message['role']) + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- for tool_call in message.tool_calls %}
            {%- set call = tool_call.function %}
            {{- header(role='assistant', newlines=1) }}
            {{- '{"name": "' + call.name + '", "parameters": ' }}
            {{- call.arguments | tojson }}{{- "}<|eot|>" }}
        {%- endfor %}
    {%- else %}
        {{- header('ipython') }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if tools %}{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}{%- endif %}
{%- if add_generation_prompt %}{{- header('assistant') }}{%- endif %}
"""

# Reasoning stripped from history, a namespace, a backwards scan, grouped tool answers.
REASONING = """\
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

# A schema written as XML: dictionaries whose keys are called items, get, keys.
SCHEMA_XML = """\
{% macro extra_keys(dict, known) %}
{%- if dict is mapping %}
{%- for key in dict if key not in known %}
{%- if dict[key] is mapping or (dict[key] is sequence and dict[key] is not string) %}
{{ '\\n<' ~ key ~ '>' ~ (dict[key] | tojson | safe) ~ '</' ~ key ~ '>' }}
{%- else %}
{{ '\\n<' ~ key ~ '>' ~ (dict[key] | string) ~ '</' ~ key ~ '>' }}
{%- endif %}
{%- endfor %}
{%- endif %}
{% endmacro %}
{%- for tool in tools or [] %}
{%- set tool = tool.function if tool.function is defined else tool %}
<function name={{ tool.name }}>
{%- if tool.parameters.properties is defined %}
{%- for name, fields in tool.parameters.properties.items() %}
  <parameter>{{ name }}{{ extra_keys(fields, ['type', 'description']) }}
  {{ fields.get('type', 'any') }}|{{ fields.get('nothing') }}|{{ fields.keys() | list }}|{{ fields | items | list | length }}
  {%- for k, v in fields|dictsort %} {{ k }}={{ v }}{% endfor %}
{%- endfor %}
{%- endif %}
</function>
{% endfor %}
{%- for message in messages if message.tool_calls %}
{%- for call in message.tool_calls %}
{%- if call.function.arguments is mapping %}
{%- for name, value in call.function.arguments|items %}
<{{ name }}>{{ value if value is string else value | tojson }}</{{ name }}>
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- endfor %}
"""

PARTS_TEMPLATE = """\
{%- for message in messages %}
{{- '<' ~ message.role ~ '>' }}
{%- if message.content is string %}{{ message.content }}{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{ '<image>' }}{%- elif 'text' in part %}{{ part['text'] }}{% endif %}
{%- endfor %}{% endif %}
{%- endfor %}"""

GENERATION = """\
{% for message in messages %}
{% if message.role == 'assistant' %}
{%- generation -%}
  {{ message.content }}
{%- endgeneration -%}
{% else %}
{{ message.content }}
{% endif %}
{% generation %}x{% endgeneration %}
{% endfor %}
"""

LOOPS = """\
{%- for message in messages %}
{%- if message.role == 'system' %}{% continue %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.revindex }} {{ loop.previtem.role if not loop.first }} {{ loop.cycle('a', 'b') }}
{%- if loop.index > 2 %}{% break %}{% endif %}
{%- else %}none
{%- endfor %}
"""

# One expression a line: printing, methods, filters and tests.
EXPRESSIONS = [
    "1.0",
    "0.1 + 0.2",
    "1e100",
    "1e-7",
    "7 // 2",
    "7 / 2",
    "2 ** 10",
    "-7 % 3",
    "true",
    "none",
    "[1, 2.5, true, none, 'a\\'b', \"q\\\"\"]",
    "{'a': [1, {'b': none}], 'c': 'é\\n'}",
    "messages",
    "undefined_name",
    "none.attribute is defined",
    "messages[7] is defined",
    "messages[0].nothing is undefined",
    "undefined_name is none",
    "'%' * 3",
    "'a' ~ 1 ~ 'b' ~ 2.5",
    "['a', 1, true, none] | join('-')",
    "messages | map(attribute='role') | join(', ')",
    "messages | selectattr('role', 'equalto', 'user') | list | length",
    "messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | list",
    "(messages | first).role ~ (messages | last).role",
    "'Hello World'.lower() ~ 'x'.upper() ~ 'ab cd'.title() ~ 'aBC'.capitalize()",
    "'  a b  '.strip() ~ '|' ~ 'xxaxx'.strip('x') ~ '|' ~ '  a '.lstrip() ~ '|' ~ ' a  '.rstrip()",
    "'a,b,,c'.split(',')",
    "' a  b '.split()",
    "'a,b,c'.split(',', 1)",
    "'a,b,c'.rsplit(',', 1)",
    "'näïve'.find('v') ~ ',' ~ 'abc'.find('z') ~ ',' ~ 'äöäö'.rfind('ö')",
    "'a-b-c'.partition('-') | list",
    "'a-b-c'.replace('-', '+') ~ 'a-b-c'.replace('-', '+', 1)",
    "'prefix-x'.removeprefix('prefix-') ~ 'x.txt'.removesuffix('.txt')",
    "'a\\nb\\r\\nc'.splitlines()",
    "'banana'.count('an') ~ 'abc'.count('')",
    "'abc'.startswith('ab') ~ 'abc'.endswith(('x', 'c'))",
    "''.isdigit() ~ '12'.isdigit() ~ 'aB'.islower() ~ 'A1'.isupper() ~ ''.isspace()",
    "'-'.join(['a', 'b'])",
    "'7'.zfill(3) ~ 'a'.ljust(3) ~ '|' ~ 'a'.rjust(3) ~ '|' ~ 'a'.center(4) ~ '|'",
    "'{} {}'.format('a', 1)",
    "'abcdef'[1:4] ~ 'abcdef'[-2:] ~ 'äbc'[0] ~ 'abc'[::-1]",
    "[1, 2, 3][1:] + [4]",
    "[3, 1, 2] | sort",
    "[3, 1, 2] | max",
    "[1, 2, 2, 3] | unique | list",
    "[1, 2, 3] | sum",
    "[1, 2, 3].index(2)",
    "'12' | int + 1",
    "'x' | int(5)",
    "'3.7' | int",
    "3.7 | int",
    "'2.50' | float",
    "true | int",
    "2.5 | round ~ 2.567 | round(2)",
    "'abc' | length ~ ([] | length) ~ (undefined_name | length)",
    "'a b' | replace(' ', '_') | upper",
    "'  x ' | trim ~ '|'",
    "undefined_name | default('d') ~ ('' | default('e', true)) ~ (none | default('f', true))",
    "'x' in 'xyz' and 'q' not in ['x'] and 'role' in messages[0]",
    "1 if false",
    "'line one\\nline two' | indent(4)",
    "'line one\\nline two' | indent(2, first=true)",
    "'abc' is string and 1 is number and 1.5 is float and 1 is integer and true is boolean",
    "[] is sequence and 'a' is sequence and {} is mapping and 'a' is iterable and 1 is not iterable",
    "{} is sequence",
    "true is number",
    "(1, 'a') | list",
    "range(3) | list",
    "range(1, 10, 3) | list",
    "dict(a=1, b='x')",
    "namespace(a=1).a",
    "{'a': 1}.get('b', 'z') ~ {'a': 1}.get('b')",
    "'<a & \"b\">' | tojson",
    "'é \\u2028 \\x7f \\x01 \\b \\f \\\\ / 👍' | tojson",
    "'é 👍' | tojson(ensure_ascii=true)",
    "[1, 2.0, 1e22, 1e-5, -0.0, true, none, 'x', [], {}] | tojson",
    "{'b': [1, {'c': []}], 'a': {}} | tojson(indent=2)",
    "{'b': 1, 'a': [1, 2]} | tojson(sort_keys=true)",
    "{'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':'))",
    "[] | tojson(indent=4) ~ {} | tojson(indent=4) ~ [1] | tojson(indent=0)",
    "{'b': 1, 'a': 2} | dictsort | tojson ~ {'a': 1}.items() | list | tojson",
    "{7: 'a', none: 'c', 2.5: 'd'} | tojson",
    "0.5 | round ~ 1.5 | round ~ -2.5 | round ~ 2.675 | round(2) ~ 7 | round",
    "2.1 | round(0, 'ceil') ~ 2.19 | round(1, method='floor') ~ 1234.5 | round(-2)",
    "numbers",
    "numbers | tojson",
    "'a' 'b'",
    "not (1 > 2) and 3 >= 3 and 'a' < 'b' and 1 != 2",
    "1 == 1.0",
    "messages[-1].role ~ messages[-1]['content']",
    "strftime_now('%') | length >= 0",
    "bos_token ~ eos_token",
    "'a' | upper | lower | capitalize | title",
    "'x' * 0 ~ 'end'",
    "['a', 'b'] | reverse | list",
    "'abc' | reverse",
    "'abc' | list",
    "[[1, 2], [3]] | map('length') | list",
    "['a ', ' b'] | map('trim') | list",
    "[0, 1, '', 'x', none] | select | list",
    "messages | groupby('role') | length",
    "'it\\'s' ",
    '"tab\\there"',
    "caller is defined",
    "loop is defined",
    "(messages | map(attribute='content') | map('upper') | list)[0]",
    "'%s-%05.1f' | format('x', 2.25)",
]

FAILING = [
    "{{ undefined_name.attribute }}",
    "{{ undefined_name + 'x' }}",
    "{{ messages[0].nothing.deeper }}",
]


def cases(demo):
    def case(name, template, messages, **options):
        return {"name": name, "template": template, "messages": messages, **options}

    yield case("demo", demo, DIALOG)
    yield case("demo, tools", demo, CALLS, tools=TOOLS)
    yield case("demo, tools, no system", demo, USER, tools=TOOLS, add_generation_prompt=False)
    yield case("demo, empty", demo, [{"role": "assistant", "content": ""}])
    yield case("chatml", CHATML, DIALOG)
    yield case("chatml, no prompt", CHATML, USER, add_generation_prompt=False)
    yield case("brackets", BRACKETS, DIALOG)
    yield case("brackets, bad order", BRACKETS, [*USER, *USER])
    yield case("headers", HEADERS, DIALOG)
    yield case("headers, tools", HEADERS, CALLS, tools=TOOLS, extra={"date_string": "1 Jan 2030"})
    yield case("reasoning", REASONING, DIALOG)
    yield case("reasoning, tools", REASONING, CALLS)
    yield case("reasoning off", REASONING, DIALOG, extra={"enable_thinking": False})
    thinking = [*USER, {"role": "assistant", "content": "B", "reasoning_content": "\nA\n"}]
    yield case("reasoning given", REASONING, thinking, add_generation_prompt=False)
    yield case("schema as XML", SCHEMA_XML, CALLS, tools=TOOLS)
    yield case("parts", PARTS_TEMPLATE, [*DIALOG, *PARTS])
    yield case("generation", GENERATION, DIALOG)
    yield case("loops", LOOPS, DIALOG)
    yield case("loops, nothing", LOOPS, [])
    yield case("raise", "{{ raise_exception('No: é \"x\" {}') }}", USER)
    yield case(
        "trailing newline", "a\n  {% if true %}  \nb\n  {% endif %}\n{# c #}\n  {{ 1 }}\n\n", USER
    )
    yield case(
        "raw", "{% raw %}{{ x }}{% endraw %}{{ '{{' }}\n{%+ if true %} y {% endif -%}\n z", USER
    )
    yield case(
        "call",
        "{% macro m(a, b='x') %}[{{ a }}{{ b }}{{ caller() }}]{% endmacro %}{% call m(1) %}in{% endcall %}",
        USER,
    )
    yield case(
        "filter block",
        "{% filter upper %}abc{% endfilter %}{% set x %}q{{ 1 }}{% endset %}{{ x }}",
        USER,
    )
    yield case("with", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", USER)
    numbers = [0, -1, 1.0, 0.1, 1e21, 12345678901234567890, -9223372036854775808, 1e-9, 100000.0]
    for expression in EXPRESSIONS:
        extra = {"numbers": numbers}
        yield case(expression, "{{ " + expression + " }}", DIALOG, extra=extra)
    for template in FAILING:
        yield case(template, template, USER)
