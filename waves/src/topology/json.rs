//! Graphs for whoever draws them: nodes and edges. (A tree is written as it is read, nested: [`super::Tree::to_json`].)

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::Graph;
use crate::NodeId;

#[derive(serde::Serialize)]
struct Shown<'a> {
    id: NodeId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
}

impl Serialize for Graph {
    /// As `{"directed","nodes":[{"id","name",…}],"edges":[[from,to],…]}`. Where every link counts both ways `directed` is
    /// false, and each is there once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_symmetric = self.is_symmetric();
        let edges: Vec<_> = if is_symmetric { self.edges().collect() } else { self.arcs().collect() };
        let nodes = self.nodes().iter();
        let nodes = nodes.map(|node| Shown {
            id: node.id,
            name: &node.name,
            port: node.port,
            cpu: node.cpu,
            label: node.label.as_deref(),
        });
        let mut fields = serializer.serialize_struct("Graph", 3)?;
        fields.serialize_field("directed", &!is_symmetric)?;
        fields.serialize_field("nodes", &nodes.collect::<Vec<_>>())?;
        fields.serialize_field("edges", &edges)?;
        fields.end()
    }
}

impl Graph {
    /// The text of the above.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names, numbers and lists are always JSON")
    }
}
