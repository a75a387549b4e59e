//! The tojson filter of transformers: json.dumps(x, ensure_ascii=False), letter for letter.
use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::python;

type Outcome<T> = Result<T, Error>;

pub fn install(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", tojson);
}

struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    /// One level of indentation; none: all on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)
fn tojson(value: &Value, args: Rest<Value>) -> Outcome<Value> {
    let (positional, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let pick = |index: usize, name: &str| -> Outcome<Value> {
        match positional.get(index) {
            Some(value) => Ok(value.clone()),
            None => Ok(kwargs.get::<Option<Value>>(name)?.unwrap_or_default()),
        }
    };
    let ensure_ascii = pick(0, "ensure_ascii")?.is_true();
    let indent = pick(1, "indent")?;
    let separators = pick(2, "separators")?;
    let sort_keys = pick(3, "sort_keys")?.is_true();
    kwargs.assert_all_used()?;
    let indent = match indent.as_str() {
        Some(text) => Some(text.to_owned()),
        None => indent.as_i64().map(|n| " ".repeat(n.clamp(0, 64) as usize)),
    };
    let separator = |index: usize, default: &str| {
        let given = separators.get_item_by_index(index).unwrap_or_default();
        given.as_str().unwrap_or(default).to_owned()
    };
    let style = Style {
        ensure_ascii,
        sort_keys,
        item_separator: separator(0, if indent.is_some() { "," } else { ", " }),
        key_separator: separator(1, ": "),
        indent,
    };
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(Value::from_safe_string(out))
}

/// Deeper than any schema; keeps a value built by a template's own loop from exhausting the stack.
const DEEPEST: usize = 200;

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Outcome<()> {
        if depth > DEEPEST {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: nested too deeply",
            ));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&json_number(value)),
            ValueKind::String => self.write_str(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => self.write_list(value, depth, out)?,
            ValueKind::Map => self.write_dict(value, depth, out)?,
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("tojson: a value of the kind {kind} is not JSON serializable"),
                ))
            }
        }
        Ok(())
    }

    fn write_list(&self, list: &Value, depth: usize, out: &mut String) -> Outcome<()> {
        let mut empty = true;
        out.push('[');
        for item in list.try_iter()? {
            if !empty {
                out.push_str(&self.item_separator);
            }
            empty = false;
            self.new_line(depth + 1, out);
            self.write(&item, depth + 1, out)?;
        }
        if !empty {
            self.new_line(depth, out);
        }
        out.push(']');
        Ok(())
    }

    fn write_dict(&self, dict: &Value, depth: usize, out: &mut String) -> Outcome<()> {
        let mut keys: Vec<Value> = dict.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        out.push('{');
        for (index, key) in keys.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            self.new_line(depth + 1, out);
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::None => "null".to_owned(),
                ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                _ => json_number(key),
            };
            self.write_str(&name, out);
            out.push_str(&self.key_separator);
            self.write(&dict.get_item(key)?, depth + 1, out)?;
        }
        if !keys.is_empty() {
            self.new_line(depth, out);
        }
        out.push('}');
        Ok(())
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn write_str(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn json_number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        number => number.to_owned(),
    }
}
