//! What mails say: templates that are compiled in, or those of the operator.

use std::{fs, io, path::Path};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use pipeline::domain::EventKind;

use super::notice::{Notice, one_line};

/// What notifies somebody.
const KINDS: [EventKind; 3] = [EventKind::Completed, EventKind::Failed, EventKind::Refunded];

/// The files of the program, by the names under which an operator's take their place.
const BUILT_IN: [(&str, &str); 9] = [
    ("completed.subject.j2", include_str!("templates/completed.subject.j2")),
    ("completed.txt.j2", include_str!("templates/completed.txt.j2")),
    ("completed.html.j2", include_str!("templates/completed.html.j2")),
    ("failed.subject.j2", include_str!("templates/failed.subject.j2")),
    ("failed.txt.j2", include_str!("templates/failed.txt.j2")),
    ("failed.html.j2", include_str!("templates/failed.html.j2")),
    ("refunded.subject.j2", include_str!("templates/refunded.subject.j2")),
    ("refunded.txt.j2", include_str!("templates/refunded.txt.j2")),
    ("refunded.html.j2", include_str!("templates/refunded.html.j2")),
];

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read the template {name}: {error}")]
    Unreadable {
        /// Of the file.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// A file of another name would never be used, and its author would wait for it in vain.
    #[error("{name} is no template of a mail: {}", BUILT_IN.map(|(name, _)| name).join(", "))]
    Unknown {
        /// Of the file.
        name: String,
    },
    /// It does not parse, or names a value that does not exist.
    #[error("{0:#}")]
    Wrong(#[from] minijinja::Error),
}

/// What a mail says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// One line.
    pub(super) subject: String,
    pub(super) plain: String,
    pub(super) html: String,
}

/// The templates of all kinds.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Those that are compiled in, each replaced by the file of its name in `folder`, and tried.
    ///
    /// # Errors
    /// When a file cannot be read, has another name, or does not work.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Said here and not left to a default: names and reasons come from anybody.
        environment.set_auto_escape_callback(|name| match name.ends_with(".html.j2") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        for (name, source) in BUILT_IN {
            environment.add_template(name, source)?;
        }
        if let Some(folder) = folder {
            let unreadable = |name: &Path, error| TemplateError::Unreadable { name: name.display().to_string(), error };
            for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
                let path = entry.map_err(|error| unreadable(folder, error))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.ends_with(".j2") {
                    continue;
                }
                if !BUILT_IN.iter().any(|(known, _)| *known == name) {
                    return Err(TemplateError::Unknown { name });
                }
                let source = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
                environment.add_template_owned(name, source)?;
            }
        }
        let templates = Self { environment };
        // What is wrong is found at the start, and not with the first customer.
        for kind in KINDS {
            templates.render(&Notice::example(kind))?;
        }
        Ok(templates)
    }

    /// What the mail about this says.
    ///
    /// # Errors
    /// When a template does not work with these values.
    pub(super) fn render(&self, notice: &Notice) -> Result<Text, TemplateError> {
        let notice = notice.in_lines();
        let part = |part: &str| -> Result<String, TemplateError> {
            Ok(self.environment.get_template(&format!("{}.{part}.j2", notice.kind))?.render(Serde(&notice))?)
        };
        Ok(Text { subject: one_line(&part("subject")?), plain: part("txt")?, html: part("html")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_templates_work_for_every_kind_and_escape_html() {
        let templates = Templates::new(None).expect("they work");
        for kind in KINDS {
            let mut notice = Notice::example(kind);
            notice.customer_name = "<b>&\"'".to_owned();
            let text = templates.render(&notice).expect("it renders");
            assert!(text.html.contains("&lt;b&gt;&amp;&quot;"), "{}", text.html);
            assert!(text.plain.contains("<b>&\"'"), "{}", text.plain);
            assert!(!text.subject.contains('\n') && text.subject.contains("example"), "{}", text.subject);
        }
    }

    #[test]
    fn an_operators_template_takes_the_place_of_ours_and_is_tried_at_the_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
        write("completed.subject.j2", "Merci,\n{{ customer_name }}");
        write("notes.md", "{{ ignored");
        let templates = Templates::new(Some(folder.path())).expect("they work");
        assert_eq!(templates.render(&Notice::example(EventKind::Completed)).expect("text").subject, "Merci, example");
        for (name, text) in
            [("failed.txt.j2", "{{ no_such_value }}"), ("failed.txt.j2", "{% if %}"), ("fialed.txt.j2", "")]
        {
            write(name, text);
            assert!(Templates::new(Some(folder.path())).is_err(), "{name}: {text}");
            fs::remove_file(folder.path().join(name)).expect("it is there");
        }
        assert!(Templates::new(Some(&folder.path().join("missing"))).is_err());
    }
}
