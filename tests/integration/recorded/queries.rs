//! Parameters with invalid values, and unusual forms of queries.

use super::pair::{Pair, pair, service};

pub(super) fn pairs() -> Vec<Pair> {
    let tags = "tag=a&".repeat(256);
    let many = "tag=a&".repeat(257);
    let selector = format!("selector=a+in+({}a)", "a,".repeat(1_100));
    let long_name = format!("{}=1", "q".repeat(3_000));
    let bad: Vec<_> = (0..70).map(|at| format!("p{at}=1")).collect();
    let bad = bad.join("&");
    let mut all = Vec::new();
    for (name, query) in [
        ("limit 0", "limit=0"),
        ("limit negative", "limit=-1"),
        ("limit signed", "limit=%2B1"),
        ("limit with a raw plus", "limit=+1"),
        ("limit too great", "limit=4294967296"),
        ("limit empty", "limit="),
        ("limit without a value", "limit"),
        ("limit twice", "limit=1&limit=1"),
        ("limit twice, escaped", "limit=1&l%69mit=2"),
        ("order unknown", "order=best"),
        ("order in capitals", "order=Name"),
        ("order twice", "order=name&order=name"),
        ("health unknown", "health=ready"),
        ("health empty", "health="),
        ("zone empty", "zone="),
        ("zone twice", "zone=a&zone=b"),
        ("version empty", "version="),
        ("tag empty", "tag="),
        ("near twice", "near=a&near=b"),
        ("port not legal", "port=8080!"),
        ("port empty", "port="),
        ("selector with an order", "selector=a%3E1"),
        ("selector with an open list", "selector=a+in+(b"),
        ("selector without a key", "selector=%3Da"),
        ("selector too long", &selector),
        ("wait without a unit", "wait=30"),
        ("wait empty", "wait="),
        ("wait 0", "wait=0s"),
        ("wait too long", "wait=301s"),
        ("wait negative", "wait=-1s"),
        ("wait with a fraction", "wait=1.5s"),
        ("wait in hours", "wait=1h"),
        ("wait beyond all bounds", "wait=99999999999999999999s"),
        ("unknown", "tga=a"),
        ("an empty name", "=a"),
        ("several faults", "tga=a&limit=0&order=x&health=y&wait=z"),
        ("70 faults", &bad),
        ("256 tags", &tags),
        ("257 tags", &many),
        ("a long name", &long_name),
        ("not UTF-8, value", "zone=%FF"),
        ("not UTF-8, name", "zo%FFne=a"),
        ("an open escape", "zone=%"),
        ("a broken escape", "zone=%GG"),
        ("NUL", "zone=%00"),
        ("a plus is a blank", "zone=a+b"),
        ("an equals sign in the value", "zone=a=b"),
        ("a second question mark", "zone=a?limit=1"),
        ("semicolons do not divide", "limit=1;order=name"),
        ("an escaped ampersand", "zone=a%26limit=0"),
        ("UTF-8", "zone=%C3%A4"),
    ] {
        all.push(pair(format!("query: {name}"), service("GET", &format!("orders?{query}"))));
    }
    all
}
