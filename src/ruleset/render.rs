//! A table in the words of `nft list`, for people. Programs read the JSON.

use serde_json::Value;

use super::TABLE;

/// One rule from its `expr`. What has no words here is shown as JSON, so that nothing is left out.
#[must_use]
pub fn rule_text(expr: &Value) -> String {
    match expr.as_array() {
        Some(statements) => statements.iter().map(statement).collect::<Vec<_>>().join(" "),
        None => expr.to_string(),
    }
}

fn statement(value: &Value) -> String {
    let Some((kind, body)) = value.as_object().and_then(|map| map.iter().next()) else {
        return value.to_string();
    };
    match kind.as_str() {
        "accept" | "drop" | "return" | "continue" => kind.clone(),
        "goto" | "jump" => format!("{kind} {}", body["target"].as_str().unwrap_or("?")),
        "counter" => match body.as_str() {
            Some(name) => format!("counter name {name}"),
            None => "counter".to_owned(),
        },
        "log" => format!("log prefix {} group {}", body["prefix"], body["group"]),
        "reject" => match (body["type"].as_str(), body["expr"].as_str()) {
            (Some(kind), Some(code)) => format!("reject with {kind} {code}"),
            (Some(kind), None) => format!("reject with {kind}"),
            _ => "reject".to_owned(),
        },
        "mangle" => format!("{} set {}", expression(&body["key"]), expression(&body["value"])),
        "match" => {
            let left = expression(&body["left"]);
            let right = expression(&body["right"]);
            match body["op"].as_str() {
                Some("!=") => format!("{left} != {right}"),
                _ if body["right"] == Value::Bool(true) => format!("{left} exists"),
                _ => format!("{left} {right}"),
            }
        }
        _ => value.to_string(),
    }
}

fn expression(value: &Value) -> String {
    let object = match value {
        Value::String(text) => return text.clone(),
        Value::Object(map) => map.iter().next(),
        other => return other.to_string(),
    };
    let Some((kind, body)) = object else {
        return value.to_string();
    };
    let field = |key: &str| body[key].as_str().unwrap_or("?").to_owned();
    let list = |separator: &str| -> String {
        body.as_array()
            .map(|items| items.iter().map(expression).collect::<Vec<_>>().join(separator))
            .unwrap_or_default()
    };
    match kind.as_str() {
        "payload" => format!("{} {}", field("protocol"), field("field")),
        "meta" if ["l4proto", "nfproto"].contains(&field("key").as_str()) => format!("meta {}", field("key")),
        "meta" => field("key"),
        "ct" => format!("ct {}", field("key")),
        "fib" => {
            let flags = match &body["flags"] {
                Value::Array(flags) => flags.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" . "),
                other => other.as_str().unwrap_or("?").to_owned(),
            };
            format!("fib {flags} type")
        }
        "exthdr" => format!("exthdr {}", field("name")),
        "concat" => list(" . "),
        "set" => format!("{{ {} }}", list(", ")),
        "range" => list("-"),
        "prefix" => format!("{}/{}", expression(&body["addr"]), body["len"]),
        "elem" => {
            let mut text = expression(&body["val"]);
            if let Some(left) = body["expires"].as_u64() {
                text.push_str(&format!(" expires {left}s"));
            }
            text
        }
        _ => value.to_string(),
    }
}

/// Elements of one set that are shown to people, before the rest is a number.
const ELEMENTS_SHOWN: usize = 50;

/// The whole table, from its JSON listing.
#[must_use]
pub fn table_text(listing: &Value) -> String {
    let empty = Vec::new();
    let objects = listing["nftables"].as_array().unwrap_or(&empty);
    let of = |kind: &'static str| {
        objects
            .iter()
            .filter_map(move |object| object.get(kind))
            .filter(|body| body["table"] == TABLE)
    };
    let name = |body: &Value| body["name"].as_str().unwrap_or("?").to_owned();
    let mut text = format!("table inet {TABLE} {{\n");
    for counter in of("counter") {
        text.push_str(&format!(
            "    counter {:<9} packets {} bytes {}\n",
            name(counter),
            counter["packets"],
            counter["bytes"]
        ));
    }
    for set in of("set") {
        let elements = set["elem"].as_array().unwrap_or(&empty);
        text.push_str(&format!("\n    set {} {{\n", name(set)));
        for element in elements.iter().take(ELEMENTS_SHOWN) {
            text.push_str(&format!("        {}\n", expression(element)));
        }
        if elements.len() > ELEMENTS_SHOWN {
            text.push_str(&format!(
                "        ... and {} more (see --json)\n",
                elements.len() - ELEMENTS_SHOWN
            ));
        }
        text.push_str("    }\n");
    }
    for chain in of("chain") {
        text.push_str(&format!("\n    chain {} {{\n", name(chain)));
        if let Some(hook) = chain["hook"].as_str() {
            text.push_str(&format!(
                "        type {} hook {hook} priority {}; policy {};\n",
                chain["type"].as_str().unwrap_or("?"),
                chain["prio"],
                chain["policy"].as_str().unwrap_or("?")
            ));
        }
        for rule in of("rule").filter(|rule| rule["chain"] == chain["name"]) {
            text.push_str("        ");
            text.push_str(&rule_text(&rule["expr"]));
            if let Some(comment) = rule["comment"].as_str() {
                text.push_str(&format!(" # {comment}"));
            }
            text.push('\n');
        }
        text.push_str("    }\n");
    }
    text.push_str("}\n");
    text
}
