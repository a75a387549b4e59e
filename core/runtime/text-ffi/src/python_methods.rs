//! Methods of Python's str and list that templates call, where minijinja-contrib has none or counts
//! bytes where Python counts characters.
use minijinja::value::{from_args, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

type Outcome = Result<Value, Error>;

/// The environment's answer to a method that a value does not have by itself.
pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Outcome {
    let own = match value.kind() {
        ValueKind::String => str_method(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq => list_method(value, method, args)?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn str_method(s: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "find" | "rfind" | "index" | "rindex" => search(s, method, args)?,
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            if what.is_empty() {
                Value::from(s.chars().count() + 1)
            } else {
                Value::from(s.matches(what).count())
            }
        }
        "split" | "rsplit" if args.first().and_then(|a| a.as_str()) == Some("") => {
            return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
        }
        "rsplit" => rsplit(s, args)?,
        "partition" | "rpartition" => partition(s, method, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(s.strip_prefix(prefix).unwrap_or(s))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(s.strip_suffix(suffix).unwrap_or(s))
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            split_lines(s, keep_ends.unwrap_or(false))
        }
        "ljust" | "rjust" | "center" | "zfill" => pad(s, method, args)?,
        "isdigit" | "isnumeric" | "isdecimal" => every(s, char::is_numeric, args)?,
        "isalpha" => every(s, char::is_alphabetic, args)?,
        "isalnum" => every(s, char::is_alphanumeric, args)?,
        "isspace" => every(s, char::is_whitespace, args)?,
        "islower" => cased(s, char::is_lowercase, char::is_uppercase, args)?,
        "isupper" => cased(s, char::is_uppercase, char::is_lowercase, args)?,
        "swapcase" | "casefold" => change_case(s, method, args)?,
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn search(s: &str, method: &str, args: &[Value]) -> Outcome {
    let (what,): (&str,) = from_args(args)?;
    let at = if method.starts_with('r') {
        s.rfind(what)
    } else {
        s.find(what)
    };
    match at {
        Some(at) => Ok(Value::from(s[..at].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "substring not found",
        )),
    }
}

fn rsplit(s: &str, args: &[Value]) -> Outcome {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let limit = most.filter(|n| *n >= 0).map_or(usize::MAX, |n| n as usize);
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = s;
    match separator {
        Some(separator) => {
            while parts.len() < limit {
                let Some((left, right)) = rest.rsplit_once(separator) else {
                    break;
                };
                parts.push(right);
                rest = left;
            }
            parts.push(rest);
        }
        None => {
            rest = rest.trim();
            while parts.len() < limit {
                let Some((left, right)) = rest.rsplit_once(char::is_whitespace) else {
                    break;
                };
                parts.push(right);
                rest = left.trim_end();
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
        }
    }
    Ok(parts.into_iter().rev().map(Value::from).collect())
}

fn partition(s: &str, method: &str, args: &[Value]) -> Outcome {
    let (separator,): (&str,) = from_args(args)?;
    let parts = match method {
        "partition" => match s.split_once(separator) {
            Some((left, right)) => [left, separator, right],
            None => [s, "", ""],
        },
        _ => match s.rsplit_once(separator) {
            Some((left, right)) => [left, separator, right],
            None => ["", "", s],
        },
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_lines(s: &str, keep_ends: bool) -> Value {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}')
            || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = s;
    while let Some(at) = rest.find(is_end) {
        let first = rest[at..].chars().next().map_or(1, char::len_utf8);
        let size = if rest[at..].starts_with("\r\n") {
            2
        } else {
            first
        };
        let line = if keep_ends { at + size } else { at };
        lines.push(Value::from(&rest[..line]));
        rest = &rest[at + size..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Value::from(lines)
}

const WIDEST: usize = 10_000;

fn pad(s: &str, method: &str, args: &[Value]) -> Outcome {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let missing = width.min(WIDEST).saturating_sub(s.chars().count());
    let fill = fill.unwrap_or(if method == "zfill" { "0" } else { " " });
    Ok(Value::from(match method {
        "ljust" => s.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + s,
        "zfill" => {
            let signed = s.starts_with(['+', '-']);
            let (sign, digits) = s.split_at(usize::from(signed));
            format!("{sign}{}{digits}", fill.repeat(missing))
        }
        _ => {
            let left = missing / 2 + (missing & width & 1);
            fill.repeat(left) + s + &fill.repeat(missing - left)
        }
    }))
}

fn every(s: &str, holds: fn(char) -> bool, args: &[Value]) -> Outcome {
    let () = from_args(args)?;
    Ok(Value::from(!s.is_empty() && s.chars().all(holds)))
}

/// At least one letter of the wanted case and none of the other.
fn cased(s: &str, wanted: fn(char) -> bool, other: fn(char) -> bool, args: &[Value]) -> Outcome {
    let () = from_args(args)?;
    Ok(Value::from(s.chars().any(wanted) && !s.chars().any(other)))
}

fn change_case(s: &str, method: &str, args: &[Value]) -> Outcome {
    let () = from_args(args)?;
    if method == "casefold" {
        return Ok(Value::from(s.to_lowercase()));
    }
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
    }
    Ok(Value::from(out))
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    if method != "index" {
        return Ok(None);
    }
    let (what,): (&Value,) = from_args(args)?;
    match list.try_iter()?.position(|item| item == *what) {
        Some(at) => Ok(Some(Value::from(at))),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "the list does not hold that value",
        )),
    }
}
