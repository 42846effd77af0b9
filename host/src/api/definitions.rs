//! The CustomResourceDefinitions of both kinds, made from the types.
//!
//! They are those of the Secrets Store CSI Driver in everything that a client or a stored object can notice: names,
//! versions, fields and their types, nothing required, no status subresource, no printer columns. So they can be applied over
//! that driver's, and stay when Coffer goes. The caller is `commands::crds`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceValidation, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::{GROUP, OLD_VERSION, VERSION, class, pod_status};

/// A definition that cannot be made; a fault of Coffer.
#[derive(Debug, thiserror::Error)]
#[error("the types do not make a definition")]
pub struct DefinitionError(#[from] serde_json::Error);

/// Both definitions.
///
/// # Errors
///
/// None that a test would not find.
pub fn all() -> Result<[CustomResourceDefinition; 2], DefinitionError> {
    Ok([class_definition()?, pod_status_definition()?])
}

fn class_definition() -> Result<CustomResourceDefinition, DefinitionError> {
    let spec = schema::<class::Spec>()?;
    let about = "A SecretProviderClass says which provider mounts what into the pods that name it.";
    let current = object(about, Some(spec.clone()), schema::<class::Status>()?);
    let old = object(about, Some(spec), schema::<class::OldStatus>()?);
    let warning = format!("{GROUP}/{OLD_VERSION} is deprecated. Use {GROUP}/{VERSION} instead.");
    let versions = vec![version(VERSION, current), deprecated(version(OLD_VERSION, old), Some(warning))];
    Ok(definition(class::KIND, "secretproviderclass", "secretproviderclasses", versions))
}

fn pod_status_definition() -> Result<CustomResourceDefinition, DefinitionError> {
    let about = "A SecretProviderClassPodStatus says what a pod has of a SecretProviderClass. The driver writes it.";
    let status = object(about, None, schema::<pod_status::Status>()?);
    let versions = vec![version(VERSION, status.clone()), deprecated(version(OLD_VERSION, status), None)];
    Ok(definition(pod_status::KIND, "secretproviderclasspodstatus", "secretproviderclasspodstatuses", versions))
}

fn definition(
    kind: &str,
    singular: &str,
    plural: &str,
    versions: Vec<CustomResourceDefinitionVersion>,
) -> CustomResourceDefinition {
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{plural}.{GROUP}")), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_owned(),
                list_kind: Some(format!("{kind}List")),
                plural: plural.to_owned(),
                singular: Some(singular.to_owned()),
                ..CustomResourceDefinitionNames::default()
            },
            scope: "Namespaced".to_owned(),
            versions,
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn version(name: &str, schema: JSONSchemaProps) -> CustomResourceDefinitionVersion {
    CustomResourceDefinitionVersion {
        name: name.to_owned(),
        served: true,
        storage: name == VERSION,
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema) }),
        ..CustomResourceDefinitionVersion::default()
    }
}

fn deprecated(version: CustomResourceDefinitionVersion, warning: Option<String>) -> CustomResourceDefinitionVersion {
    CustomResourceDefinitionVersion { deprecated: Some(true), deprecation_warning: warning, ..version }
}

/// The schema of a whole object.
fn object(about: &str, spec: Option<JSONSchemaProps>, status: JSONSchemaProps) -> JSONSchemaProps {
    let text = || JSONSchemaProps { type_: Some("string".into()), ..JSONSchemaProps::default() };
    let metadata = JSONSchemaProps { type_: Some("object".into()), ..JSONSchemaProps::default() };
    let own = [("apiVersion", text()), ("kind", text()), ("metadata", metadata), ("status", status)];
    let parts = own.into_iter().chain(spec.map(|spec| ("spec", spec)));
    JSONSchemaProps {
        description: Some(about.to_owned()),
        properties: Some(parts.map(|(name, schema)| (name.to_owned(), schema)).collect()),
        type_: Some("object".to_owned()),
        ..JSONSchemaProps::default()
    }
}

/// The schema of a type, as a structural one.
fn schema<T: JsonSchema>() -> Result<JSONSchemaProps, DefinitionError> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = serde_json::from_value(settings.into_generator().into_root_schema_for::<T>().to_value())?;
    relax(&mut schema);
    Ok(schema)
}

/// Leaves the types alone: a default would be written into stored objects, and the rest says what nobody asked for.
fn relax(schema: &mut JSONSchemaProps) {
    schema.title = None;
    schema.default = None;
    schema.required = None;
    schema.format = None;
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(relax);
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        relax(values);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        relax(items);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Fields and their types, without what is said about them.
    fn shape(schema: &Value) -> Value {
        let known = ["description", "type", "properties", "items", "additionalProperties"];
        let extra: Vec<&String> =
            schema.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(extra.is_empty(), "{extra:?} in {schema}");
        match schema["type"].as_str().unwrap() {
            "array" => json!([shape(&schema["items"])]),
            "object" => match (&schema["properties"], &schema["additionalProperties"]) {
                (Value::Object(fields), Value::Null) => {
                    fields.iter().map(|(name, schema)| (name.clone(), shape(schema))).collect()
                }
                (Value::Null, Value::Object(_)) => json!({"*": shape(&schema["additionalProperties"])}),
                (Value::Null, Value::Null) => json!({}),
                _ => panic!("{schema}"),
            },
            scalar => json!(scalar),
        }
    }

    fn class_spec() -> Value {
        let texts = json!({"*": "string"});
        json!({
            "provider": "string",
            "parameters": texts,
            "secretObjects": [{
                "secretName": "string",
                "type": "string",
                "labels": texts,
                "annotations": texts,
                "data": [{"objectName": "string", "key": "string"}],
            }],
        })
    }

    fn object(parts: Value) -> Value {
        let mut object = json!({"apiVersion": "string", "kind": "string", "metadata": {}});
        object.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        object
    }

    /// The definition without schemas, and the shapes of the schemas by version.
    fn taken_apart(definition: &CustomResourceDefinition) -> (Value, Value) {
        let mut definition = serde_json::to_value(definition).unwrap();
        let mut shapes = json!({});
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            let name = version["name"].as_str().unwrap().to_owned();
            shapes[name] = shape(&version.as_object_mut().unwrap().remove("schema").unwrap()["openAPIV3Schema"]);
        }
        (definition, shapes)
    }

    fn expected(kind: &str, singular: &str, plural: &str, warning: Option<&str>) -> Value {
        let mut old = json!({"name": "v1alpha1", "served": true, "storage": false, "deprecated": true});
        if let Some(warning) = warning {
            old["deprecationWarning"] = json!(warning);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.secrets-store.csi.x-k8s.io")},
            "spec": {
                "group": "secrets-store.csi.x-k8s.io",
                "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
                "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true}, old],
            },
        })
    }

    #[test]
    fn classes_are_defined_as_the_driver_before_defined_them() {
        let [class, _] = all().unwrap();
        let (definition, shapes) = taken_apart(&class);
        let warning = "secrets-store.csi.x-k8s.io/v1alpha1 is deprecated. Use secrets-store.csi.x-k8s.io/v1 instead.";
        let (plural, singular) = ("secretproviderclasses", "secretproviderclass");
        assert_eq!(definition, expected("SecretProviderClass", singular, plural, Some(warning)));
        let old_status = json!({"byPod": [{"id": "string", "namespace": "string"}]});
        let v1 = object(json!({"spec": class_spec(), "status": {}}));
        let v1alpha1 = object(json!({"spec": class_spec(), "status": old_status}));
        assert_eq!(shapes, json!({"v1": v1, "v1alpha1": v1alpha1}));
    }

    #[test]
    fn pod_statuses_are_defined_as_the_driver_before_defined_them() {
        let [_, pod_status] = all().unwrap();
        let (definition, shapes) = taken_apart(&pod_status);
        let (plural, singular) = ("secretproviderclasspodstatuses", "secretproviderclasspodstatus");
        assert_eq!(definition, expected("SecretProviderClassPodStatus", singular, plural, None));
        let status = object(json!({"status": {
            "podName": "string",
            "secretProviderClassName": "string",
            "mounted": "boolean",
            "targetPath": "string",
            "objects": [{"id": "string", "version": "string"}],
        }}));
        assert_eq!(shapes, json!({"v1": status, "v1alpha1": status}));
    }
}
