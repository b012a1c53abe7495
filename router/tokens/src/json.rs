//! JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it, which is what `tojson` means in a chat template.
//!
//! It differs from the usual compact form in its separators (`", "` and `": "`), in floats (`1e+16`), and in escaping
//! nothing for HTML.

use std::io::{self, Write};

use minijinja::Value;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as text, on one line, or with `indent` spaces a level.
pub(crate) fn dumps(value: &Value, indent: Option<usize>) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let python = Python { indent, depth: 0, filled: false };
    value.serialize(&mut Serializer::with_formatter(&mut bytes, python))?;
    Ok(String::from_utf8(bytes).expect("a JSON serializer writes UTF-8"))
}

struct Python {
    indent: Option<usize>,
    depth: usize,
    /// The array or object that ends next has a value.
    filled: bool,
}

impl Python {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        match (first, self.indent) {
            (true, _) => {}
            (false, None) => writer.write_all(b", ")?,
            (false, Some(_)) => writer.write_all(b",")?,
        }
        self.line(writer)
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            None => Ok(()),
            Some(indent) => write!(writer, "\n{:width$}", "", width = indent * self.depth),
        }
    }
}

impl Formatter for Python {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Rust's shortest form turns to an exponent where Python's does, and writes it without sign and padding.
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => writer.write_all(text.as_bytes()),
            Some((mantissa, exponent)) => {
                let exponent: i32 = exponent.parse().map_err(io::Error::other)?;
                write!(writer, "{mantissa}e{exponent:+03}")
            }
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// Right-hand sides were printed by CPython 3.11: `json.dumps(value, ensure_ascii=False)`.
    #[test]
    fn one_line_is_what_python_prints() {
        for (given, python) in [
            (r#"{"b":1,"a":[1,2.0,{}],"c":[]}"#, r#"{"b": 1, "a": [1, 2.0, {}], "c": []}"#),
            (r#"["<a href='x'>&",null,true]"#, r#"["<a href='x'>&", null, true]"#),
            (r#"[1e16,1e15,0.0001,0.00001,-2.5e-7]"#, "[1e+16, 1000000000000000.0, 0.0001, 1e-05, -2.5e-07]"),
            (r#"["ü\u0001\n\u007f"]"#, "[\"ü\\u0001\\n\u{7f}\"]"),
        ] {
            assert_eq!(dumps(&value(given), None).unwrap(), python);
        }
    }

    /// Right-hand side was printed by CPython 3.11: `json.dumps(value, ensure_ascii=False, indent=2)`.
    #[test]
    fn indented_is_what_python_prints() {
        let given = value(r#"{"b":{"x":[1,{"y":[]}]},"a":{}}"#);
        let python =
            "{\n  \"b\": {\n    \"x\": [\n      1,\n      {\n        \"y\": []\n      }\n    ]\n  },\n  \"a\": {}\n}";
        assert_eq!(dumps(&given, Some(2)).unwrap(), python);
    }
}
