//! How things are said.

use std::borrow::Cow;

pub(crate) use crate::model::fault::chain;
pub(crate) use crate::telemetry::output::{
    ask, bytes, data_is_on_terminal, ending, go_on, is_lost, line, printed, say, talk_is_on_terminal, text,
};

/// A text for one line of a terminal: what would move its cursor, or turn the text around, is escaped.
pub(crate) fn plain(cell: &str) -> Cow<'_, str> {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !cell.contains(moves) {
        return Cow::Borrowed(cell);
    }
    let shown = |c: char| if moves(c) { c.escape_default().to_string() } else { c.to_string() };
    cell.chars().map(shown).collect()
}

/// Rows of text as columns, two blanks between them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell).into_owned()).collect()).collect();
    let rows = &rows;
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
