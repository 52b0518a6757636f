//! Adding to and taking from `hooks_dir`, on the text itself: a round trip gives back the bytes that were there.
//!
//! What we had to make around our entries (the key, its table, the file) is marked by a comment, so that it can go with them.

use std::ops::Range;
use std::path::Path;

use toml_edit::Item;

use super::{Array, ConfError, find_array, parse, table_like};

const MADE_LIST: &str = "# This list was added by terok-shield setup.";
const MADE_TABLE: &str = "# This table was added by terok-shield setup.";
const MADE_FILE: &str = "# This file was added by terok-shield setup.";

/// `text` (`None`: no file yet) with `dirs` in `hooks_dir`; `None` if they are there. `before` is what a list made anew repeats.
pub(super) fn add(
    path: &Path,
    text: Option<&str>,
    dirs: &[&str],
    before: &[String],
) -> Result<Option<String>, ConfError> {
    let source = text.unwrap_or_default();
    let document = parse(path, source)?;
    let new = match find_array(path, source, &document, "engine", "hooks_dir")? {
        Some(array) => {
            let missing: Vec<&str> = dirs.iter().copied().filter(|dir| !contains(&array, dir)).collect();
            if missing.is_empty() {
                return Ok(None);
            }
            append(source, &array, &missing)
        }
        None => {
            let mut list: Vec<&str> = before.iter().map(String::as_str).collect();
            list.extend(dirs.iter().copied().filter(|dir| !before.iter().any(|had| had == dir)));
            let list = format!(
                "hooks_dir = [{}]",
                list.iter().map(|dir| quoted(dir)).collect::<Vec<_>>().join(", ")
            );
            make(path, text, document.get("engine"), &list, dirs)?
        }
    };
    // What was written must be what podman will read; a slip here would be a container without hooks.
    let check = parse(path, &new)?;
    let listed = find_array(path, &new, &check, "engine", "hooks_dir")?;
    if !listed.is_some_and(|array| dirs.iter().all(|dir| contains(&array, dir))) {
        return Err(by_hand(path, "a form of [engine] that is not edited", dirs));
    }
    Ok(Some(new))
}

/// `text` without `own`, and without what `add` made; the outer `None`: nothing to do, the inner: the file was ours.
pub(super) fn remove(
    path: &Path,
    text: &str,
    own: &[&str],
    before: &[String],
) -> Result<Option<Option<String>>, ConfError> {
    let document = parse(path, text)?;
    let Some(array) = find_array(path, text, &document, "engine", "hooks_dir")? else {
        return Ok(None);
    };
    let is_own = |entry: &super::Entry| entry.string.as_deref().is_some_and(|dir| own.contains(&dir));
    if !array.items.iter().any(is_own) {
        return Ok(None);
    }
    let key = table_like(&document, "engine")
        .and_then(|table| table.get_key_value("hooks_dir"))
        .and_then(|(key, _)| key.span());
    let marked = key.and_then(|key| marker(text, key.start));
    let left: Vec<&str> = array
        .items
        .iter()
        .filter(|entry| !is_own(entry))
        .filter_map(|entry| entry.string.as_deref())
        .collect();
    let Some((mark, made)) = marked else {
        return Ok(Some(Some(cut(text, own_ranges(text, &array, is_own)))));
    };
    if left != before {
        // The list has become the user's; only what is ours goes, the mark included.
        let mut ranges = own_ranges(text, &array, is_own);
        ranges.push(mark);
        return Ok(Some(Some(cut(text, ranges))));
    }
    let mut region = mark.start..array.span.end;
    if made != MADE_LIST {
        region = whole_table(text, &document, &region).unwrap_or(region);
    }
    let rest = cut(text, vec![region]);
    let ours_alone = made == MADE_FILE && rest.trim().is_empty();
    Ok(Some((!ours_alone).then_some(rest)))
}

fn contains(array: &Array, dir: &str) -> bool {
    array.items.iter().any(|entry| entry.string.as_deref() == Some(dir))
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn by_hand(path: &Path, what: &'static str, dirs: &[&str]) -> ConfError {
    let wanted = dirs.iter().map(|dir| quoted(dir)).collect::<Vec<_>>().join(" and ");
    ConfError::ByHand {
        path: path.to_owned(),
        what,
        wanted,
    }
}

/// Puts strings after the last element, in the manner of that element: on a line of its own where it has one.
fn append(text: &str, array: &Array, dirs: &[&str]) -> String {
    let Some(last) = array.items.last() else {
        let list = dirs.iter().map(|dir| quoted(dir)).collect::<Vec<_>>().join(", ");
        let at = array.span.start + 1;
        return format!("{}{list}{}", &text[..at], &text[at..]);
    };
    let lead = &text[..last.span.start];
    let spaces = &lead[lead.trim_end_matches([' ', '\t']).len()..];
    let gap = if lead.trim_end_matches([' ', '\t']).ends_with('\n') {
        format!("\n{spaces}")
    } else {
        " ".to_owned()
    };
    let added: String = dirs.iter().map(|dir| format!(",{gap}{}", quoted(dir))).collect();
    format!("{}{added}{}", &text[..last.span.end], &text[last.span.end..])
}

/// Makes the key, with its table and file where there are none.
fn make(
    path: &Path,
    text: Option<&str>,
    engine: Option<&Item>,
    list: &str,
    dirs: &[&str],
) -> Result<String, ConfError> {
    let Some(source) = text else {
        return Ok(format!("[engine]\n{MADE_FILE}\n{list}\n"));
    };
    match engine {
        Some(Item::Table(table)) if !table.is_implicit() => {
            let header = table
                .span()
                .ok_or_else(|| by_hand(path, "[engine] has no place in the text", dirs))?;
            let line = line_end(source, header.end);
            Ok(format!("{}\n{MADE_LIST}\n{list}{}", &source[..line], &source[line..]))
        }
        // only [engine.something] so far: a header of its own may still follow
        Some(Item::Table(table)) if !table.is_dotted() => Ok(with_table(source, list)),
        None => Ok(with_table(source, list)),
        Some(_) => Err(by_hand(path, "'engine' is not written as a table of its own", dirs)),
    }
}

/// The file ends with a newline afterwards if it did before: that tells `whole_table` what to take.
fn with_table(source: &str, list: &str) -> String {
    if source.is_empty() {
        format!("[engine]\n{MADE_TABLE}\n{list}\n")
    } else if source.ends_with('\n') {
        format!("{source}\n[engine]\n{MADE_TABLE}\n{list}\n")
    } else {
        format!("{source}\n\n[engine]\n{MADE_TABLE}\n{list}")
    }
}

/// Before the line's terminator, which may be CRLF.
fn line_end(text: &str, from: usize) -> usize {
    let end = text[from..].find('\n').map_or(text.len(), |offset| from + offset);
    if text[..end].ends_with('\r') { end - 1 } else { end }
}

/// The mark above a key, with the newline before it, and which it is.
fn marker(text: &str, key: usize) -> Option<(Range<usize>, &'static str)> {
    let above = text[..key].strip_suffix('\n')?;
    [MADE_LIST, MADE_TABLE, MADE_FILE].into_iter().find_map(|mark| {
        let start = above.strip_suffix(mark)?.strip_suffix('\n')?.len();
        Some((start..above.len(), mark))
    })
}

/// The table from its header on, if `region` (mark, key and list) is all that it has.
fn whole_table(text: &str, document: &toml_edit::Document<&str>, region: &Range<usize>) -> Option<Range<usize>> {
    let Some(Item::Table(table)) = document.get("engine") else {
        return None;
    };
    let header = table.span()?;
    let below = |item: &Item| item.is_array_of_tables() || item.as_table().is_some_and(|table| !table.is_dotted());
    let alone = table.iter().all(|(key, item)| key == "hooks_dir" || below(item));
    if !alone || header.end != region.start {
        return None;
    }
    let lead = &text[..header.start];
    let (newlines, end) = match &text.as_bytes()[region.end..] {
        [] => (2, region.end),
        [b'\n', ..] => (1, region.end + 1),
        _ => return None,
    };
    let had = lead.len() - lead.trim_end_matches('\n').len();
    Some(header.start - newlines.min(had)..end)
}

/// What to cut so that the array loses its own entries and stays an array.
fn own_ranges(text: &str, array: &Array, is_own: impl Fn(&super::Entry) -> bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut kept_before = false;
    for (index, entry) in array.items.iter().enumerate() {
        if !is_own(entry) {
            kept_before = true;
            continue;
        }
        let next = array.items.get(index + 1);
        let range = match index.checked_sub(1).and_then(|previous| array.items.get(previous)) {
            Some(previous) if kept_before => {
                let gap = previous.span.end..entry.span.end;
                // a comment between the two is the user's
                if text[previous.span.end..entry.span.start].contains('#') {
                    with_comma(text, &entry.span)
                } else {
                    gap
                }
            }
            _ => match next {
                Some(next) if !text[entry.span.end..next.span.start].contains('#') => entry.span.start..next.span.start,
                Some(_) => with_comma(text, &entry.span),
                None => entry.span.clone(),
            },
        };
        ranges.push(range);
    }
    ranges
}

fn with_comma(text: &str, span: &Range<usize>) -> Range<usize> {
    let after = &text[span.end..];
    let blank = after.len() - after.trim_start().len();
    if after[blank..].starts_with(',') {
        span.start..span.end + blank + 1
    } else {
        span.clone()
    }
}

fn cut(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        if range.start > at {
            kept.push_str(&text[at..range.start]);
        }
        at = at.max(range.end);
    }
    kept.push_str(&text[at..]);
    kept
}
