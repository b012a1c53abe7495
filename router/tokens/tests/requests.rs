//! What a request body may hold, and what is said of one that it may not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_tokens::{ModelFiles, TokensError};

static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../weft/assets/sim-8b"));
static FILES: LazyLock<ModelFiles> = LazyLock::new(|| ModelFiles::load(&FOLDER).unwrap());

fn completion(body: &Value) -> Result<Vec<u32>, TokensError> {
    FILES.completion_prompt(body.to_string().as_bytes())
}

/// The prompt that a template makes of a body, as text.
fn rendered(template: &Value, body: &Value) -> Result<String, TokensError> {
    let tokenizer = std::fs::read_to_string(FOLDER.join("tokenizer.json")).unwrap();
    let config =
        json!({"chat_template": template, "bos_token": {"content": "<|endoftext|>"}, "eos_token": "<|im_end|>"});
    let files = ModelFiles::from_parts(&tokenizer, &config.to_string())?;
    files.decode(&files.chat_prompt(body.to_string().as_bytes())?)
}

#[test]
fn a_prompt_is_a_text_or_ids_of_the_vocabulary() {
    assert_eq!(completion(&json!({"prompt": "Hello there"})).unwrap(), FILES.encode("Hello there").unwrap());
    assert_eq!(completion(&json!({"prompt": [5, 4095, 0]})).unwrap(), [5, 4095, 0]);
    assert_eq!(completion(&json!({"prompt": []})).unwrap(), [0_u32; 0]);
}

#[test]
fn bad_prompts_are_refused_by_name() {
    for (body, message) in [
        (json!({"prompt": [5, 4096]}), "token id 4096 is not in the vocabulary, expected 0 to 4095"),
        (json!({"prompt": [-1]}), "expected a token id"),
        (json!({"prompt": [1.5]}), "expected a token id"),
        (json!({"prompt": 7}), "expected a prompt: a text or an array of token ids"),
        (json!({"model": "sim-8b"}), "missing field `prompt`"),
    ] {
        let error = completion(&body).unwrap_err();
        assert!(error.is_bad_request() && error.to_string().contains(message), "{body}: {error}");
    }
}

#[test]
fn a_batch_of_prompts_is_left_to_the_engine() {
    for body in [json!({"prompt": ["one", "two"]}), json!({"prompt": [[1, 2], [3]]})] {
        let error = completion(&body).unwrap_err();
        assert!(!error.is_bad_request() && error.to_string().contains("prompt is a batch"), "{error}");
    }
}

#[test]
fn bad_messages_are_refused_by_name() {
    for (messages, message) in [
        (json!([{"content": "no role"}]), "needs a role"),
        (json!(["text"]), "every message is an object"),
        (json!([{"role": "user", "content": 5}]), "content is a text or a list of parts"),
        (json!([{"role": "user", "content": [{"text": "x"}]}]), "has a type"),
        (json!("hello"), "expected a sequence"),
    ] {
        let error = FILES.chat_prompt(json!({"messages": messages}).to_string().as_bytes()).unwrap_err();
        assert!(error.is_bad_request() && error.to_string().contains(message), "{messages}: {error}");
    }
}

#[test]
fn what_only_the_engine_can_tell_is_unsupported_not_bad() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
    for body in [
        json!({"messages": [{"role": "user", "content": [image]}]}),
        json!({"messages": [], "continue_final_message": true}),
        json!({"messages": [], "chat_template": "{{ 1 }}"}),
    ] {
        let error = FILES.chat_prompt(body.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, TokensError::Unsupported(_)), "{body}: {error}");
    }
}

#[test]
fn templates_speak_jinja_with_the_extensions_of_hugging_face() {
    let body = json!({"messages": [{"role": "user", "content": " Hi "}], "tools": [{"z": 1, "a": "<b>"}]});
    for (template, text) in [
        ("{{ bos_token }}{{ messages[0].content.strip() }}{{ eos_token }}", "<|endoftext|>Hi<|im_end|>"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ tools | tojson }}", r#"[{"a": "<b>", "z": 1}]"#),
        ("{% if add_generation_prompt %}\n    {%- generation %}x{% endgeneration %}\n{% endif %}\n", "x"),
        ("{% if strftime_now is defined %}no{% else %}yes{% endif %}", "yes"),
        ("{{ messages[0]['content'].split('H')[-1] }}{% if documents is none %}.{% endif %}", "i ."),
    ] {
        assert_eq!(rendered(&json!(template), &body).unwrap(), text, "{template}");
    }
}

#[test]
fn a_template_that_walks_over_parts_gets_parts() {
    let template = json!("{% for m in messages %}{% for p in m['content'] %}[{{ p.text }}]{% endfor %}{% endfor %}");
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let body = json!({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": parts}]});
    assert_eq!(rendered(&template, &body).unwrap(), "[x][a][b]");
}

#[test]
fn tool_calls_reach_the_template_with_their_arguments_as_an_object() {
    let template = json!("{{ messages[0].tool_calls[0].function.arguments.city }}{{ messages[0].content }}|");
    let function = json!({"name": "weather", "arguments": "{\"city\": \"Bonn\"}"});
    let call = json!({"id": "1", "type": "function", "function": function});
    let body = json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [call]}]});
    assert_eq!(rendered(&template, &body).unwrap(), "Bonn|");
}

#[test]
fn keys_keep_the_order_in_which_the_client_wrote_them() {
    let tokenizer = std::fs::read_to_string(FOLDER.join("tokenizer.json")).unwrap();
    let config = json!({"chat_template": "{{ tools | tojson }}"}).to_string();
    let files = ModelFiles::from_parts(&tokenizer, &config).unwrap();
    let tokens = files.chat_prompt(br#"{"messages": [], "tools": [{"z": {"b": 1, "a": 2}, "c": 3}]}"#).unwrap();
    assert_eq!(files.decode(&tokens).unwrap(), r#"[{"z": {"b": 1, "a": 2}, "c": 3}]"#);
}

#[test]
fn a_chat_with_tools_takes_the_template_for_tools() {
    let templates = json!([{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]);
    assert_eq!(rendered(&templates, &json!({"messages": []})).unwrap(), "plain");
    assert_eq!(rendered(&templates, &json!({"messages": [], "tools": [{}]})).unwrap(), "tools");
}

#[test]
fn what_a_template_refuses_is_the_callers_fault_and_what_it_cannot_do_is_not() {
    let refused =
        rendered(&json!("{{ raise_exception('roles must alternate') }}"), &json!({"messages": []})).unwrap_err();
    assert!(refused.is_bad_request() && refused.to_string().contains("roles must alternate"), "{refused}");
    let broken = rendered(&json!("{{ messages[0].no.such }}"), &json!({"messages": []})).unwrap_err();
    assert!(matches!(broken, TokensError::Unsupported(_)), "{broken}");
    let none = rendered(&Value::Null, &json!({"messages": []})).unwrap_err();
    assert!(matches!(none, TokensError::NoTemplate), "{none}");
}

#[test]
fn a_template_file_takes_the_place_of_the_one_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(FOLDER.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("chat_template.jinja"), "from the file").unwrap();
    let files = ModelFiles::load(folder.path()).unwrap();
    assert_eq!(files.decode(&files.chat_prompt(br#"{"messages": []}"#).unwrap()).unwrap(), "from the file");
    assert_ne!(files.template_digest(), FILES.template_digest());
    assert_eq!(files.tokenizer_digest(), FILES.tokenizer_digest());
}

#[test]
fn a_folder_without_a_tokenizer_says_what_it_should_hold() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelFiles::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("expected a model folder with tokenizer.json"), "{error}");
}

/// The shipped tokenizer; or one whose normalizer puts an x before every piece, with one flag of `<|im_start|>` turned over.
fn with_flag(flag: Option<&str>) -> String {
    let mut tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(FOLDER.join("tokenizer.json")).unwrap()).unwrap();
    if let Some(flag) = flag {
        let value = &mut tokenizer["added_tokens"][1][flag];
        *value = json!(!value.as_bool().unwrap());
        tokenizer["normalizer"] = json!({"type": "Prepend", "prepend": "x"});
    }
    tokenizer.to_string()
}

static VARIANTS: LazyLock<Vec<(ModelFiles, tokenizers::Tokenizer)>> = LazyLock::new(|| {
    [None, Some("lstrip"), Some("rstrip"), Some("single_word"), Some("normalized")]
        .into_iter()
        .map(with_flag)
        .map(|json| (ModelFiles::from_parts(&json, "{}").unwrap(), json.parse().unwrap()))
        .collect()
});

proptest! {
    /// In whatever order texts are met, and however they are cut, tokens are those of the tokenizer itself.
    #[test]
    fn the_cache_never_changes_an_answer(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("<|im_start|>".to_owned()), Just("<|im_end|>".to_owned()), Just("<|im_".to_owned()),
                Just("|><|".to_owned()), Just("\n \n".to_owned()), "[a-z ]{0,12}", "\\PC{0,6}",
            ],
            0..24,
        ),
    ) {
        for (files, tokenizer) in VARIANTS.iter() {
            for upto in [pieces.len() / 2, pieces.len(), pieces.len()] {
                let text = pieces[..upto].concat();
                let expected = tokenizer.encode(text.as_str(), false).unwrap();
                prop_assert_eq!(files.encode(&text).unwrap(), expected.get_ids());
            }
        }
    }
}
