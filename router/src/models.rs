//! Which endpoints serve which model, under which model keys. Made anew whenever the roster changes; never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;
use weft_tokens::ModelFiles;
use weft_types::{Contract, EndpointId, Incarnation, ModelKey, NodeId, Roster};

use crate::config::EndpointConfig;
use crate::endpoint::{Endpoint, UrlError};

/// Tokenizers by model name.
pub(crate) type Tokenizers = BTreeMap<String, Arc<ModelFiles>>;

/// What is served.
#[derive(Debug, Default)]
pub(crate) struct Models {
    by_name: BTreeMap<String, Arc<Model>>,
    endpoints: BTreeMap<EndpointId, Arc<Endpoint>>,
}

/// One name in requests.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) served: Vec<Served>,
    /// How its prompts become tokens; none where no files were configured, or where they are not those of the engines.
    pub(crate) files: Option<Arc<ModelFiles>>,
    /// Model keys that it is served under, without a salt.
    pub(crate) keys: Vec<ModelKey>,
}

/// An endpoint that serves a model.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whose tiers it loads from.
    pub(crate) node: Option<NodeId>,
    /// Index in [`Model::keys`]; none for an engine that neither has weft nor publishes.
    pub(crate) key: Option<usize>,
    /// It takes `cache_salt`.
    pub(crate) takes_salt: bool,
}

impl Models {
    /// From the roster and the static endpoints. Endpoints of `before` that did not change keep their health.
    pub(crate) fn new(
        roster: &Roster,
        fixed: &[Arc<Endpoint>],
        fixed_config: &[EndpointConfig],
        tokenizers: &Tokenizers,
        before: &Self,
    ) -> Self {
        let mut building = Building { keys: BTreeMap::new(), served: BTreeMap::new(), mismatched: Vec::new() };
        let mut endpoints = BTreeMap::new();
        for (endpoint, config) in fixed.iter().zip(fixed_config) {
            endpoints.insert(endpoint.id.clone(), Arc::clone(endpoint));
            for name in &config.models {
                let endpoint = Arc::clone(endpoint);
                let key = config.published_key().map(|key| building.key(name, key));
                building.serve(name, Served { endpoint, node: None, key, takes_salt: config.cache_salt });
            }
        }
        for spec in roster.endpoints.values() {
            let endpoint = match before.kept(&spec.id, spec.incarnation, &spec.url) {
                Some(endpoint) => endpoint,
                None => match Endpoint::new(spec.id.clone(), spec.incarnation, &spec.url) {
                    Ok(endpoint) => Arc::new(endpoint),
                    Err(error) => {
                        warn!("{error}; it gets no requests");
                        continue;
                    }
                },
            };
            endpoints.insert(spec.id.clone(), Arc::clone(&endpoint));
            for contract in &spec.contracts {
                building.contract(contract, &endpoint, spec.node.as_ref(), tokenizers);
            }
        }
        let by_name = building.finish(tokenizers);
        for name in by_name.keys().filter(|name| !before.by_name.contains_key(*name)) {
            if by_name[name].files.is_none() {
                warn!(model = %name, "no tokenizer for this model: it is routed by load, whatever is cached where");
            }
        }
        Self { by_name, endpoints }
    }

    /// The static endpoints.
    pub(crate) fn fixed(config: &[EndpointConfig]) -> Result<Vec<Arc<Endpoint>>, UrlError> {
        let endpoint =
            |one: &EndpointConfig| Endpoint::new(one.id.clone(), Incarnation::new(0), &one.url).map(Arc::new);
        config.iter().map(endpoint).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name)
    }

    /// The only model, if there is one only.
    pub(crate) fn only(&self) -> Option<&Arc<Model>> {
        let mut models = self.by_name.values();
        models.next().filter(|_| models.next().is_none())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn endpoints(&self) -> &BTreeMap<EndpointId, Arc<Endpoint>> {
        &self.endpoints
    }

    fn kept(&self, id: &EndpointId, incarnation: Incarnation, url: &str) -> Option<Arc<Endpoint>> {
        let same = |endpoint: &&Arc<Endpoint>| endpoint.incarnation == incarnation && endpoint.url == url;
        self.endpoints.get(id).filter(same).cloned()
    }
}

struct Building {
    keys: BTreeMap<String, Vec<ModelKey>>,
    served: BTreeMap<String, Vec<Served>>,
    /// Names whose engines have another tokenizer or template than the router.
    mismatched: Vec<String>,
}

impl Building {
    fn contract(
        &mut self,
        contract: &Contract,
        endpoint: &Arc<Endpoint>,
        node: Option<&NodeId>,
        tokenizers: &Tokenizers,
    ) {
        let key = contract.model_key.with_salt("");
        for name in std::iter::once(&contract.model_key.model).chain(&contract.aliases) {
            let key = self.key(name, key.clone());
            if tokenizers.get(name).is_some_and(|files| !agree(contract, files)) && !self.mismatched.contains(name) {
                warn!(
                    model = %name, endpoint = %endpoint.id,
                    "the tokenizer configured here is not the engine's: this model is routed by load until the folder holds the \
                     engine's files"
                );
                self.mismatched.push(name.clone());
            }
            let endpoint = Arc::clone(endpoint);
            self.serve(name, Served { endpoint, node: node.cloned(), key: Some(key), takes_salt: true });
        }
    }

    /// Index of a key under which a model is served.
    fn key(&mut self, name: &str, key: ModelKey) -> usize {
        let keys = self.keys.entry(name.to_owned()).or_default();
        keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        })
    }

    fn serve(&mut self, name: &str, served: Served) {
        let endpoints = self.served.entry(name.to_owned()).or_default();
        if endpoints.iter().all(|known| known.endpoint.id != served.endpoint.id) {
            endpoints.push(served);
        }
    }

    fn finish(mut self, tokenizers: &Tokenizers) -> BTreeMap<String, Arc<Model>> {
        let model = |(name, served): (String, Vec<Served>)| {
            let files = tokenizers.get(&name).filter(|_| !self.mismatched.contains(&name)).cloned();
            let keys = self.keys.remove(&name).unwrap_or_default();
            (name.clone(), Arc::new(Model { name, served, files, keys }))
        };
        self.served.into_iter().map(model).collect()
    }
}

/// An empty digest agrees with any.
fn agree(contract: &Contract, files: &ModelFiles) -> bool {
    let same = |theirs: &str, ours: &str| theirs.is_empty() || ours.is_empty() || theirs == ours;
    same(&contract.tokenizer, files.tokenizer_digest()) && same(&contract.chat_template, files.template_digest())
}
