//! GBNF, llama.cpp's notation of grammars, written as Lark for the grammar engine.
//!
//! GBNF knows characters only; the engine has a lexer under its parser, which reads the longest
//! lexeme. Rules that reach no recursion therefore become terminals (regular expressions), so that a
//! lexeme is as long as it can be; the others stay rules over them.
use std::collections::HashMap;
use std::fmt::Write;

use crate::error::{Result, TextError};

enum Expr {
    Literal(String),
    Class(String),
    Rule(usize),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Repeat(Box<Expr>, u32, Option<u32>),
}

#[derive(Default)]
struct Rule {
    name: String,
    body: Option<Expr>,
}

/// The start rule is called `root`.
pub fn to_lark(source: &str) -> Result<String> {
    let mut reader = Reader::new(source);
    reader.read_rules()?;
    let rules = reader.rules;
    let Some(root) = rules.iter().position(|rule| rule.name == "root") else {
        return Err(TextError::invalid(
            "the GBNF grammar has no rule called 'root' to start from",
        ));
    };
    if let Some(rule) = rules.iter().find(|rule| rule.body.is_none()) {
        return Err(TextError::invalid(format!(
            "the GBNF grammar uses the rule '{}' but does not define it",
            rule.name
        )));
    }
    Ok(write_rules(&rules, root))
}

// ---- reading ----

struct Reader<'a> {
    source: &'a str,
    at: usize,
    rules: Vec<Rule>,
    ids: HashMap<String, usize>,
}

/// Deeper nesting than any real grammar's; parentheses are read by recursion.
const DEEPEST: usize = 200;

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            at: 0,
            rules: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn read_rules(&mut self) -> Result<()> {
        self.skip_space(true);
        while self.peek().is_some() {
            let name = self.read_name()?;
            self.skip_space(false);
            if !self.take("::=") {
                return Err(self.wrong(&format!("expected '::=' after the rule name '{name}'")));
            }
            self.skip_space(true);
            let body = self.read_choice(0)?;
            let id = self.rule_id(name);
            self.rules[id].body = Some(body);
            self.skip_space(true);
        }
        Ok(())
    }

    /// Alternatives. A line break ends a rule, but not inside parentheses nor beside a '|'.
    fn read_choice(&mut self, depth: usize) -> Result<Expr> {
        if depth > DEEPEST {
            return Err(self.wrong("parentheses are nested too deeply"));
        }
        let mut choices = vec![self.read_sequence(depth)?];
        loop {
            let before = self.at;
            self.skip_space(true);
            if !self.take("|") {
                self.at = before;
                break;
            }
            self.skip_space(true);
            choices.push(self.read_sequence(depth)?);
        }
        Ok(match choices.len() {
            1 => choices.remove(0),
            _ => Expr::Choice(choices),
        })
    }

    fn read_sequence(&mut self, depth: usize) -> Result<Expr> {
        let nested = depth > 0;
        let mut items = Vec::new();
        loop {
            self.skip_space(nested);
            let item = match self.peek() {
                Some('"') => self.read_literal()?,
                Some('[') => self.read_class()?,
                Some('.') => {
                    self.at += 1;
                    Expr::Class("[^]".to_owned())
                }
                Some('(') => {
                    self.at += 1;
                    let inner = self.read_choice(depth + 1)?;
                    self.skip_space(true);
                    if !self.take(")") {
                        return Err(self.wrong("expected ')'"));
                    }
                    inner
                }
                Some('<' | '!') => {
                    return Err(self
                        .wrong("tokens by name or number are not supported; write the characters"))
                }
                Some(c) if is_name(c) && !self.at_rule_start() => {
                    let name = self.read_name()?;
                    Expr::Rule(self.rule_id(name))
                }
                _ => break,
            };
            items.push(self.read_repeats(item)?);
        }
        Ok(match items.len() {
            1 => items.remove(0),
            _ => Expr::Sequence(items),
        })
    }

    fn read_repeats(&mut self, mut item: Expr) -> Result<Expr> {
        loop {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    item = self.read_counts(item)?;
                    continue;
                }
                _ => return Ok(item),
            };
            self.at += 1;
            item = Expr::Repeat(Box::new(item), least, most);
        }
    }

    /// {n}, {n,} or {n,m}.
    fn read_counts(&mut self, item: Expr) -> Result<Expr> {
        self.at += 1;
        let least = self.read_number()?;
        let mut most = Some(least);
        self.skip_space(false);
        if self.take(",") {
            self.skip_space(false);
            most = match self.peek() {
                Some('}') => None,
                _ => Some(self.read_number()?),
            };
        }
        self.skip_space(false);
        if !self.take("}") || most.is_some_and(|most| most < least) {
            return Err(self.wrong("a repetition is {n}, {n,} or {n,m} with n <= m"));
        }
        Ok(Expr::Repeat(Box::new(item), least, most))
    }

    fn read_number(&mut self) -> Result<u32> {
        self.skip_space(false);
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let number = self.rest()[..digits].parse();
        let number = number.map_err(|_| self.wrong("expected a number of repetitions"))?;
        self.at += digits;
        Ok(number)
    }

    fn read_name(&mut self) -> Result<String> {
        let size = self.rest().chars().take_while(|c| is_name(*c)).count();
        if size == 0 {
            return Err(self.wrong("expected the name of a rule"));
        }
        let name = self.rest()[..size].to_owned();
        self.at += size;
        Ok(name)
    }

    fn read_literal(&mut self) -> Result<Expr> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                None | Some('\n') => return Err(self.wrong("a literal lacks its closing '\"'")),
                _ => text.push(self.read_char()?),
            }
        }
        self.at += 1;
        Ok(Expr::Literal(text))
    }

    /// A character class, as a class of the engine's regular expressions.
    fn read_class(&mut self) -> Result<Expr> {
        self.at += 1;
        let mut class = String::from("[");
        if self.take("^") {
            class.push('^');
        }
        loop {
            match self.peek() {
                Some(']') => break,
                None | Some('\n') => return Err(self.wrong("a character class lacks its ']'")),
                _ => {}
            }
            let first = self.read_char()?;
            push_code(&mut class, first);
            let mut ahead = self.rest().chars();
            if ahead.next() == Some('-') && !matches!(ahead.next(), None | Some(']')) {
                self.at += 1;
                let last = self.read_char()?;
                if last < first {
                    return Err(self.wrong("a range of characters runs backwards"));
                }
                class.push('-');
                push_code(&mut class, last);
            }
        }
        self.at += 1;
        if class == "[" {
            return Err(self.wrong("an empty character class matches nothing"));
        }
        class.push(']');
        Ok(Expr::Class(class))
    }

    /// One character, or an escape that stands for one.
    fn read_char(&mut self) -> Result<char> {
        let Some(c) = self.peek() else {
            return Err(self.wrong("the grammar ends inside a text"));
        };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        match escaped {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('x') => self.read_code(2),
            Some('u') => self.read_code(4),
            Some('U') => self.read_code(8),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => Ok(c),
            _ => {
                Err(self
                    .wrong("unknown escape; known are \\n \\r \\t \\\\ \\\" \\[ \\] \\x \\u \\U"))
            }
        }
    }

    fn read_code(&mut self, digits: usize) -> Result<char> {
        let code = self.rest().get(..digits);
        let code = code.and_then(|text| u32::from_str_radix(text, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else {
            return Err(self.wrong(&format!(
                "expected {digits} hexadecimal digits of a character"
            )));
        };
        self.at += digits;
        Ok(c)
    }

    /// Whether a name here begins the next rule rather than being a reference.
    fn at_rule_start(&self) -> bool {
        let after = self.rest().trim_start_matches(is_name);
        after.trim_start_matches([' ', '\t']).starts_with("::=")
    }

    fn rule_id(&mut self, name: String) -> usize {
        let next = self.rules.len();
        let id = *self.ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.rules.push(Rule { name, body: None });
        }
        id
    }

    fn skip_space(&mut self, over_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if over_lines => self.at += 1,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }
    fn wrong(&self, what: &str) -> TextError {
        let line = self.source[..self.at].matches('\n').count() + 1;
        TextError::invalid(format!("GBNF grammar, line {line}: {what}"))
    }
}

/// By its code: no character needs a rule of its own for quoting.
fn push_code(class: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(class, "\\u{{{:x}}}", c as u32);
}

// ---- writing ----

fn write_rules(rules: &[Rule], root: usize) -> String {
    let regular = regular_rules(rules);
    let name = |id: usize| {
        let plain = rules[id].name.replace('-', "_");
        if regular[id] {
            format!("T{id}_{}", plain.to_ascii_uppercase())
        } else {
            format!("r{id}_{}", plain.to_ascii_lowercase())
        }
    };
    let mut lark = format!("start: {}\n", name(root));
    for (id, rule) in rules.iter().enumerate() {
        let mut body = String::new();
        if let Some(expr) = &rule.body {
            write_expr(expr, &name, &mut body);
        }
        let _ = writeln!(lark, "{}: {body}", name(id));
    }
    lark
}

fn write_expr(expr: &Expr, name: &dyn Fn(usize) -> String, out: &mut String) {
    match expr {
        Expr::Literal(text) => {
            out.push_str(&serde_json::Value::from(text.as_str()).to_string());
        }
        Expr::Class(class) if class == "[^]" => out.push_str("/(?s:.)/"),
        Expr::Class(class) => {
            let _ = write!(out, "/{class}/");
        }
        Expr::Rule(id) => out.push_str(&name(*id)),
        Expr::Sequence(items) if items.is_empty() => out.push_str("\"\""),
        Expr::Sequence(items) => write_list(items, " ", name, out),
        Expr::Choice(items) => write_list(items, " | ", name, out),
        Expr::Repeat(item, least, most) => {
            out.push('(');
            write_expr(item, name, out);
            out.push(')');
            let _ = match (least, most) {
                (0, None) => write!(out, "*"),
                (1, None) => write!(out, "+"),
                (0, Some(1)) => write!(out, "?"),
                (n, None) => write!(out, "{{{n},}}"),
                (n, Some(m)) => write!(out, "{{{n},{m}}}"),
            };
        }
    }
}

fn write_list(items: &[Expr], between: &str, name: &dyn Fn(usize) -> String, out: &mut String) {
    out.push('(');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(between);
        }
        write_expr(item, name, out);
    }
    out.push(')');
}

/// The rules that reach no cycle, from the leaves upwards.
fn regular_rules(rules: &[Rule]) -> Vec<bool> {
    let uses: Vec<Vec<usize>> = rules
        .iter()
        .map(|rule| {
            let mut used = Vec::new();
            if let Some(body) = &rule.body {
                collect_uses(body, &mut used);
            }
            used
        })
        .collect();
    let mut regular = vec![false; rules.len()];
    loop {
        let mut changed = false;
        for id in 0..rules.len() {
            if !regular[id] && uses[id].iter().all(|used| regular[*used]) {
                regular[id] = true;
                changed = true;
            }
        }
        if !changed {
            return regular;
        }
    }
}

fn collect_uses(expr: &Expr, used: &mut Vec<usize>) {
    match expr {
        Expr::Literal(_) | Expr::Class(_) => {}
        Expr::Rule(id) => used.push(*id),
        Expr::Sequence(items) | Expr::Choice(items) => {
            items.iter().for_each(|item| collect_uses(item, used));
        }
        Expr::Repeat(item, ..) => collect_uses(item, used),
    }
}
