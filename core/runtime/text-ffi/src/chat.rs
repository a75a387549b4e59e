//! Chat templates: Jinja as Hugging Face transformers sets it up (trimmed blocks, Python's methods
//! and printing, tojson, raise_exception, strftime_now, loop controls).
use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;

use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use crate::error::{Result, TextError};
use crate::{python, python_json, python_methods};

/// Far beyond any real conversation; ends the loops of a hostile template in seconds.
const MOST_STEPS: u64 = 50_000_000;

pub struct ChatTemplate {
    environment: Environment<'static>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_keep_trailing_newline(false);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(MOST_STEPS));
        minijinja_contrib::add_to_environment(&mut environment);
        python::install(&mut environment);
        python_json::install(&mut environment);
        environment.set_unknown_method_callback(python_methods::call);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let source = without_generation_tags(source).into_owned();
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| TextError::corrupt(describe("does not compile", &e)))?;
        Ok(Self { environment })
    }

    /// `variables`: a JSON object.
    pub fn render(&self, variables: &str) -> Result<String> {
        let variables: serde_json::Value = serde_json::from_str(variables).map_err(|e| {
            TextError::invalid(format!("The template's variables are not valid JSON: {e}"))
        })?;
        let template = self.environment.get_template(NAME);
        let template = template.map_err(|e| TextError::internal(e.to_string()))?;
        template
            .render(python::from_json(variables))
            .map_err(|e| TextError::invalid(raised(&e).unwrap_or_else(|| describe("failed", &e))))
    }
}

/// The words of a template that called raise_exception.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Raised {}

fn raise_exception(message: String) -> std::result::Result<String, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Raised(message)))
}

fn raised(error: &Error) -> Option<String> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(raised) = inner.downcast_ref::<Raised>() {
            return Some(raised.0.clone());
        }
        source = inner.source();
    }
    None
}

fn describe(what: &str, error: &Error) -> String {
    let line = error.line().map(|l| format!(" at line {l}"));
    let detail = error.detail().map(|d| format!(" ({d})"));
    format!(
        "The model's chat template {what}{}: {}{}.",
        line.unwrap_or_default(),
        error.kind(),
        detail.unwrap_or_default()
    )
}

/// The local time, formatted by the C library as Python does it.
fn strftime_now(format: String) -> std::result::Result<String, Error> {
    let bad = || Error::new(ErrorKind::InvalidOperation, "strftime_now: bad format");
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = CString::new(format).map_err(|_| bad())?;
    let mut buffer = vec![0u8; 4096];
    // SAFETY: localtime_r fills `now`, strftime writes at most buffer.len() bytes and reads the
    // NUL-terminated format.
    let size = unsafe {
        let seconds = libc::time(std::ptr::null_mut());
        let mut now: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut now).is_null() {
            return Err(bad());
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            &now,
        )
    };
    buffer.truncate(size);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// {% generation %} marks what a trainer learns from and prints nothing: an always true condition
/// keeps its place and its whitespace control.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let inner = tag.trim_start_matches(['-', '+']);
        let word = inner.trim_start();
        for (name, stand_in) in [("generation", "if true"), ("endgeneration", "endif")] {
            let Some(after) = word.strip_prefix(name) else {
                continue;
            };
            let close = after.trim_start();
            if close.trim_start_matches(['-', '+']).starts_with("%}") {
                out.push_str(&tag[..tag.len() - word.len()]);
                out.push_str(stand_in);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_keep_their_whitespace_control() {
        assert_eq!(
            without_generation_tags("a{%- generation -%}b{%+ endgeneration %}{{generation}}"),
            "a{%- if true -%}b{%+ endif %}{{generation}}"
        );
        assert_eq!(
            without_generation_tags("{% generations %}"),
            "{% generations %}"
        );
    }
}
