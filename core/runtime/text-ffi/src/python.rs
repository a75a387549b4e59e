//! Values as Python has them: dictionaries whose methods win over their keys, printing as str() and
//! repr() do, and the filters and tests of Jinja that depend on either.
use std::fmt::Write;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Kwargs, Object, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

type Outcome<T> = Result<T, Error>;

/// A JSON object. A tool's schema may well have a key "items" or "get"; the method is still there.
#[derive(Debug)]
struct Dict(IndexMap<String, Value>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|k| Value::from(k.as_str())).collect())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Outcome<Value> {
        match (method, args) {
            ("keys", []) => Ok(self.0.keys().map(|k| Value::from(k.as_str())).collect()),
            ("values", []) => Ok(self.0.values().cloned().collect()),
            ("items", []) => {
                let pair = |(k, v): (&String, &Value)| {
                    Value::from(vec![Value::from(k.as_str()), v.clone()])
                };
                Ok(self.0.iter().map(pair).collect())
            }
            ("get", [key]) => Ok(self.get_value(key).unwrap_or(Value::from(()))),
            ("get", [key, default]) => Ok(self.get_value(key).unwrap_or(default.clone())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

pub fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => Value::from(b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(s) => Value::from(s),
        serde_json::Value::Array(items) => items.into_iter().map(from_json).collect(),
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().map(|(k, v)| (k, from_json(v)));
            Value::from_object(Dict(entries.collect()))
        }
    }
}

/// str(): what {{ value }} prints.
pub fn str_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr(value),
    }
}

pub fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::Number => number(value),
        ValueKind::String => repr_of_str(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().into_iter().flatten();
            let items: Vec<String> = items.map(|item| repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let entries = keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&item))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// An integer or a float as Python prints it.
pub fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), repr_of_float)
}

/// The shortest digits that read back, in Python's choice of plain and exponent form.
pub fn repr_of_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn repr_of_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => escape(c, &mut out),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn escape(c: char, out: &mut String) {
    let code = c as u32;
    let written = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.expect("a String takes every write");
}

pub fn install(environment: &mut Environment<'static>) {
    environment
        .set_formatter(|out, _state, value| out.write_str(&str_of(value)).map_err(Error::from));
    environment.add_filter("string", |value: &Value| str_of(value));
    environment.add_filter("join", join);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("round", round);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("sequence", |value: &Value| {
        !matches!(
            value.kind(),
            ValueKind::Number | ValueKind::Bool | ValueKind::None
        )
    });
    environment.add_test("iterable", |value: &Value| value.try_iter().is_ok());
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
}

fn join(
    value: &Value,
    separator: Option<String>,
    attribute: Option<String>,
    kwargs: Kwargs,
) -> Outcome<String> {
    let separator = match separator {
        Some(separator) => separator,
        None => kwargs.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => kwargs.get::<Option<String>>("attribute")?,
    };
    kwargs.assert_all_used()?;
    let mut parts = Vec::new();
    for item in value.try_iter()? {
        parts.push(match &attribute {
            Some(name) => str_of(&item.get_attr(name)?),
            None => str_of(&item),
        });
    }
    Ok(parts.join(&separator))
}

fn length(value: &Value) -> Outcome<usize> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("a value of the kind {} has no length", value.kind()),
        )
    })
}

fn int(value: &Value, default: Option<Value>) -> Outcome<Value> {
    let text = numeric_text(value)?;
    let float = || text.parse::<f64>().ok().filter(|x| x.is_finite());
    let parsed = text.replace('_', "").parse::<i128>().ok();
    let parsed = parsed.or_else(|| float().map(|x| x.trunc() as i128));
    Ok(match parsed {
        Some(i) => i64::try_from(i).map_or_else(|_| Value::from(i), Value::from),
        None => default.unwrap_or(Value::from(0)),
    })
}

fn float(value: &Value, default: Option<Value>) -> Outcome<Value> {
    let parsed = numeric_text(value)?.parse::<f64>().ok();
    Ok(parsed.map_or_else(|| default.unwrap_or(Value::from(0.0)), Value::from))
}

/// Python's round: halves of the exact decimal value go to the even digit; integers stay integers.
fn round(
    value: &Value,
    precision: Option<i32>,
    method: Option<String>,
    kwargs: Kwargs,
) -> Outcome<Value> {
    let precision = match precision {
        Some(precision) => precision,
        None => kwargs.get::<Option<i32>>("precision")?.unwrap_or(0),
    };
    let method = match method {
        Some(method) => method,
        None => kwargs.get::<Option<String>>("method")?.unwrap_or_default(),
    };
    kwargs.assert_all_used()?;
    let precision = precision.clamp(-300, 300);
    let scale = 10f64.powi(precision);
    let x = f64::try_from(value.clone())?;
    Ok(match method.as_str() {
        "ceil" => Value::from((x * scale).ceil() / scale),
        "floor" => Value::from((x * scale).floor() / scale),
        _ if value.is_integer() && precision >= 0 => value.clone(),
        _ if precision < 0 => Value::from((x * scale).round_ties_even() / scale),
        _ => {
            let digits = format!("{x:.*}", precision as usize);
            Value::from(digits.parse::<f64>().unwrap_or(x))
        }
    })
}

/// What a conversion to a number reads; text that is no number gives the filter's default.
fn numeric_text(value: &Value) -> Outcome<String> {
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Bool => Ok(i32::from(value.is_true()).to_string()),
        ValueKind::Number => Ok(number(value)),
        _ => Ok(value.as_str().unwrap_or_default().trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let cases = [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456789.125, "123456789.125"),
        ];
        for (x, expected) in cases {
            assert_eq!(repr_of_float(x), expected);
        }
    }
}
