//! The source files, without what is compiled for tests alone.

use std::path::Path;

use super::lexer::{Placed, Token, tokens};

/// A file under `engine/src`.
pub(super) struct Source {
    /// Relative to `engine/src`, with `/`.
    pub(super) path: String,
    /// What it says, without inline test modules.
    pub(super) tokens: Vec<Placed>,
    /// Paths, without `.rs`, of modules that it declares for tests alone.
    test_modules: Vec<String>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let (tokens, test_modules) = split_off_tests(path, &tokens(text));
        Self { path: path.to_owned(), tokens, test_modules }
    }

    /// The part that it belongs to: `deliver` of `deliver/mod.rs`, `filter` of `filter.rs`.
    pub(super) fn part(&self) -> &str {
        let end = self.path.find('/').unwrap_or(self.path.len() - ".rs".len());
        &self.path[..end]
    }

    /// How many `super` lead to the crate's root.
    pub(super) fn depth(&self) -> usize {
        module_path(&self.path).split('/').count()
    }
}

/// `deliver/mod.rs` → `deliver`, `deliver/live.rs` → `deliver/live`.
fn module_path(path: &str) -> &str {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path)
}

/// Reads all files below `root`.
pub(super) fn read(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source can be read");
                let relative = path.strip_prefix(root).expect("it lies below");
                sources.push(Source::new(&relative.display().to_string(), &text));
            }
        }
    }
    without_test_modules(sources)
}

/// Leaves out the files of modules that are declared for tests alone, and those below them.
pub(super) fn without_test_modules(sources: Vec<Source>) -> Vec<Source> {
    let modules: Vec<String> = sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    let is_test = |path: &str| {
        let module = module_path(path);
        modules.iter().any(|test| module == test || module.starts_with(&format!("{test}/")))
    };
    sources.into_iter().filter(|source| !is_test(&source.path)).collect()
}

/// Takes `#[cfg(test)] mod x { … }` away, and tells the paths of `#[cfg(test)] mod x;`.
fn split_off_tests(path: &str, all: &[Placed]) -> (Vec<Placed>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::with_capacity(all.len()), Vec::new());
    let mut at = 0;
    while at < all.len() {
        if let Some((name, length)) = test_module(&all[at..]) {
            modules.push(format!("{}/{name}", module_path(path)));
            at += length;
        } else {
            kept.push(all[at].clone());
            at += 1;
        }
    }
    (kept, modules)
}

/// Name and length in tokens of the test module that starts here.
fn test_module(all: &[Placed]) -> Option<(String, usize)> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let spelled = |token: &Token| match token {
        Token::Word(word) => word.clone(),
        Token::Path => "::".to_owned(),
        Token::Sign(sign) => sign.to_string(),
    };
    let head: Vec<String> = all.iter().take(ATTRIBUTE.len()).map(|(token, _)| spelled(token)).collect();
    if head != ATTRIBUTE {
        return None;
    }
    let rest = &all[ATTRIBUTE.len()..];
    // `pub`, `pub(crate)` may come before `mod`.
    let keyword = rest.iter().take(5).position(|(token, _)| token.word() == Some("mod"))?;
    let name = rest.get(keyword + 1)?.0.word()?.to_owned();
    let body = keyword + 2;
    let length = if rest.get(body)?.0.is(';') { body + 1 } else { block_end(rest, body) };
    Some((name, ATTRIBUTE.len() + length))
}

/// Position after the brace that closes the one at `open`.
fn block_end(all: &[Placed], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, (token, _)) in all.iter().enumerate().skip(open) {
        if token.is('{') {
            depth += 1;
        } else if token.is('}') {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    all.len()
}
