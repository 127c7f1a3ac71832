//! The manual as plain pages, which packages carry: no script, no font and no style sheet of others is in them, so nothing has
//! a licence of its own, and the bytes follow from the chapters alone. For the web mdBook makes the same chapters.
//!
//! **Invariant:** headings are called as in [`super::links`], which checks what links to them; a link out of the manual, and
//! HTML in a chapter that is no comment, are errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::links::{self, INCLUDE};
use crate::exit::{Failure, Result};

const SOURCES: &str = "manual/src";
const STYLE: &str = "packaging/manual/style.css";
const TEMPLATE: &str = "packaging/manual/page.html";

/// A line of the table of contents.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Part(String),
    Chapter { title: String, file: String },
}

/// Name and text of every page and of their style sheet; the first chapter is `index.html`.
pub fn pages(root: &Path) -> Result<Vec<(String, String)>> {
    let read = |path: &str| {
        let path = root.join(path);
        fs::read_to_string(&path).map_err(Failure::io("read", &path))
    };
    let contents = contents(&read(&format!("{SOURCES}/SUMMARY.md"))?);
    let chapters: Vec<(&str, &str)> = contents
        .iter()
        .filter_map(|line| match line {
            Line::Chapter { title, file } => Some((title.as_str(), file.as_str())),
            Line::Part(_) => None,
        })
        .collect();
    let book = book(&read("manual/book.toml")?)?;
    let template = read(TEMPLATE)?;
    let mut pages = vec![("style.css".to_owned(), read(STYLE)?)];
    for (number, (title, file)) in chapters.iter().enumerate() {
        let path = format!("{SOURCES}/{file}");
        let mut text = String::new();
        for line in read(&path)?.lines() {
            match line.strip_prefix(INCLUDE).and_then(|rest| rest.strip_suffix("}}")) {
                Some(included) => text.push_str(&read(&links::normal(&path, included))?),
                None => text.push_str(line),
            }
            text.push('\n');
        }
        let body = body(&text, &chapters)
            .map_err(|why| Failure::failed(format!("{path}: {why}"), "the packages' manual cannot show it"))?;
        let next = |other: Option<&(&str, &str)>, word: &str| match other {
            Some((title, file)) => {
                format!("<a rel=\"{word}\" href=\"{}\">{}</a>", page_of(&chapters, file), escape(title))
            }
            None => "<span></span>".to_owned(),
        };
        let before = number.checked_sub(1).and_then(|before| chapters.get(before));
        let turn = next(before, "prev") + &next(chapters.get(number + 1), "next");
        // The body last: it may have the words of the template in it.
        let page = template
            .replace("@TITLE@", &escape(title))
            .replace("@BOOK@", &escape(&book))
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@CONTENTS@", &navigation(&contents, &chapters, file))
            .replace("@TURN@", &turn)
            .replace("@BODY@", &body);
        pages.push((page_of(&chapters, file), page));
    }
    Ok(pages)
}

fn book(text: &str) -> Result<String> {
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| Failure::failed(format!("manual/book.toml: {}", e.message()), ""))?;
    let title = table.get("book").and_then(|book| book.get("title")).and_then(toml::Value::as_str);
    title.map(str::to_owned).ok_or_else(|| Failure::failed("manual/book.toml has no title", ""))
}

fn contents(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let line = line.trim();
        if let Some(part) = line.strip_prefix("# ").filter(|part| *part != "Summary") {
            return Some(Line::Part(part.to_owned()));
        }
        let (title, file) = line.trim_start_matches("- ").strip_prefix('[')?.strip_suffix(')')?.split_once("](")?;
        Some(Line::Chapter { title: title.to_owned(), file: file.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

fn page_of(chapters: &[(&str, &str)], file: &str) -> String {
    match chapters.first() {
        Some((_, first)) if *first == file => "index.html".to_owned(),
        _ => format!("{}.html", file.trim_end_matches(".md")),
    }
}

fn navigation(contents: &[Line], chapters: &[(&str, &str)], current: &str) -> String {
    let mut text = String::new();
    let mut open = false;
    for line in contents {
        match line {
            Line::Part(title) => {
                text.push_str(if open { "</ul>\n" } else { "" });
                text.push_str(&format!("<p>{}</p>\n", escape(title)));
                open = false;
            }
            Line::Chapter { title, file } => {
                text.push_str(if open { "" } else { "<ul>\n" });
                let here = if file == current { " aria-current=\"page\"" } else { "" };
                let page = page_of(chapters, file);
                text.push_str(&format!("<li><a href=\"{page}\"{here}>{}</a></li>\n", escape(title)));
                open = true;
            }
        }
    }
    text.push_str(if open { "</ul>\n" } else { "" });
    text
}

/// A chapter as HTML: headings get their names, links lead to pages, comments (for the manual's tests) go.
fn body(text: &str, chapters: &[(&str, &str)]) -> std::result::Result<String, String> {
    let events: Vec<Event<'_>> = Parser::new_ext(text, Options::ENABLE_TABLES).collect();
    let mut seen = BTreeMap::new();
    let mut kept = Vec::with_capacity(events.len());
    for (at, event) in events.iter().enumerate() {
        kept.push(match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let name = links::numbered(links::name_of(&heading_text(&events[at + 1..])), &mut seen);
                Event::Start(Tag::Heading {
                    level: *level,
                    id: Some(name.into()),
                    classes: Vec::new(),
                    attrs: Vec::new(),
                })
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => Event::Start(Tag::Link {
                link_type: *link_type,
                dest_url: CowStr::from(target(dest_url, chapters)?),
                title: title.clone(),
                id: id.clone(),
            }),
            Event::Start(Tag::HtmlBlock) => {
                comment(&html_text(&events[at + 1..]))?;
                continue;
            }
            Event::InlineHtml(text) => {
                comment(text)?;
                continue;
            }
            Event::Html(_) | Event::End(TagEnd::HtmlBlock) => continue,
            other => other.clone(),
        });
    }
    let mut out = String::new();
    html::push_html(&mut out, kept.into_iter());
    Ok(out)
}

fn heading_text(events: &[Event<'_>]) -> String {
    let own = events.iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    own.map(|event| match event {
        Event::Text(text) | Event::Code(text) => text.as_ref(),
        _ => "",
    })
    .collect()
}

fn html_text(events: &[Event<'_>]) -> String {
    let own = events.iter().map_while(|event| match event {
        Event::Html(text) => Some(text.as_ref()),
        _ => None,
    });
    own.collect()
}

fn comment(text: &str) -> std::result::Result<(), String> {
    let text = text.trim();
    let is = text.starts_with("<!--") && text.ends_with("-->");
    if is { Ok(()) } else { Err(format!("{text:?} is HTML and no comment")) }
}

fn target(link: &str, chapters: &[(&str, &str)]) -> std::result::Result<String, String> {
    if link.contains("://") || link.starts_with('#') {
        return Ok(link.to_owned());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    if !chapters.iter().any(|(_, known)| *known == file) {
        return Err(format!("the link {link} leads out of the manual"));
    }
    Ok(page_of(chapters, file) + &anchor.map_or_else(String::new, |anchor| format!("#{anchor}")))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CHAPTERS: [(&str, &str); 2] = [("A", "a.md"), ("B & C", "b.md")];

    fn between<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
        text.split(begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn headings_are_named_and_links_lead_to_pages() {
        let text = "# One `two`\n## Again\n## Again\n\n<!-- run sql\nselect 1 -->\n[a](a.md#x) [b](b.md) [c](#again)\n";
        let out = body(text, &CHAPTERS).unwrap();
        assert_eq!(between(&out, " id=\""), ["one-two", "again", "again-1"]);
        assert_eq!(between(&out, " href=\""), ["index.html#x", "b.html", "#again"]);
        assert!(!out.contains("select 1"), "{out}");
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        for (text, why) in [("[x](../c.md)", "leads out of the manual"), ("<b>x</b>", "HTML"), ("<div>\nx", "HTML")] {
            let said = body(text, &CHAPTERS).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn the_contents_have_parts_and_chapters() {
        let lines = contents("# Summary\n\n[A](a.md)\n\n# Run\n\n- [B & C](b.md)\n");
        assert_eq!(lines.len(), 3);
        let text = navigation(&lines, &CHAPTERS, "b.md");
        let want = "<ul>\n<li><a href=\"index.html\">A</a></li>\n</ul>\n<p>Run</p>\n<ul>\n\
                    <li><a href=\"b.html\" aria-current=\"page\">B &amp; C</a></li>\n</ul>\n";
        assert_eq!(text, want);
    }

    #[test]
    fn every_link_of_the_committed_manual_leads_to_a_page_and_a_heading() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let pages: BTreeMap<String, String> = pages(root).unwrap().into_iter().collect();
        assert!(pages.len() > 15 && pages.contains_key("index.html"), "{:?}", pages.keys());
        let ids: BTreeMap<&str, BTreeSet<&str>> =
            pages.iter().map(|(name, text)| (name.as_str(), between(text, " id=\"").into_iter().collect())).collect();
        let mut seen = 0;
        for (name, text) in &pages {
            for link in between(text, " href=\"").into_iter().filter(|link| !link.contains("://")) {
                let (page, anchor) = link.split_once('#').unwrap_or((link, ""));
                let page = if page.is_empty() { name.as_str() } else { page };
                let there = ids.get(page).unwrap_or_else(|| panic!("{name}: {link}"));
                assert!(anchor.is_empty() || there.contains(anchor), "{name}: {link}");
                seen += 1;
            }
        }
        assert!(seen > 300, "{seen}");
    }
}
