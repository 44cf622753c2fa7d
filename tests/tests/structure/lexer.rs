//! Rust source as identifiers and punctuation, each with its line: without comments, texts and numbers.

/// A token that the rules look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// A word: identifier or keyword.
    Word(String),
    /// Two colons.
    Path,
    /// Any other character.
    Sign(char),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Path | Self::Sign(_) => None,
        }
    }

    pub(super) fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// A token and its line, from 1.
pub(super) type Placed = (Token, usize);

/// Splits `text`.
pub(super) fn tokens(text: &str) -> Vec<Placed> {
    Lexer { rest: text, line: 1, tokens: Vec::new() }.run()
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Placed>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<Placed> {
        while let Some(next) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(block_comment(self.rest));
            } else if let Some(length) = raw_text(self.rest) {
                self.skip(length);
            } else if next == '"' {
                self.skip(quoted(self.rest, '"'));
            } else if next == '\'' {
                self.skip(character_or_lifetime(self.rest));
            } else if next == '_' || next.is_alphanumeric() {
                self.word();
            } else if self.rest.starts_with("::") {
                self.push(Token::Path, 2);
            } else if next.is_whitespace() {
                self.skip(next.len_utf8());
            } else {
                self.push(Token::Sign(next), next.len_utf8());
            }
        }
        self.tokens
    }

    fn word(&mut self) {
        let length = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let word = self.rest[..length].to_owned();
        // `b` of b"…", `r` of r"…" stand before a text and mean nothing by themselves.
        self.push(Token::Word(word), length);
    }

    fn push(&mut self, token: Token, length: usize) {
        self.tokens.push((token, self.line));
        self.rest = &self.rest[length..];
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }
}

/// Length of the comment at the start of `text`; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Length of `r"…"`, `r#"…"#`, `br"…"` or `br#"…"#` at the start of `text`, if there is one.
fn raw_text(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix('r').or_else(|| text.strip_prefix("br"))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| begin + at + end.len()))
}

/// Length of the text in `quote`s at the start of `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Length of `'x'` or `'\n'` at the start of `text`, else of the single quote of a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let mut inner = text.chars().skip(1);
    let first = inner.next();
    if first == Some('\\') || inner.next() == Some('\'') { quoted(text, '\'') } else { 1 }
}
