//! What a component makes the host spend before its first instruction runs, and what it keeps of the
//! host's memory while it is loaded: counted by what its modules declare and how often each is
//! instantiated. Nothing of this passes a meter later.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, DataKind, ElementItems, ElementKind, Instance, Parser, Payload,
};

use crate::bounds::CORE_INSTANCES_PER_COMPONENT;
use crate::refusal::DeployError;

/// What wasmtime keeps of each element of a passive segment, in every instance.
const PASSIVE_ELEMENT_BYTES: u64 = 16;

/// Component instances. A composed component has one for each of its parts.
const COMPONENT_INSTANCES: u64 = 1000;
/// Elements of passive segments; they are copied for each instance.
const PASSIVE_ELEMENTS: u64 = 256 * 1024;
/// Elements that instances write to their tables; a JavaScript engine writes about 20,000.
const ACTIVE_ELEMENTS: u64 = 256 * 1024;
/// Bytes of data that instances write to their memories; a Python interpreter writes about 20 MiB.
const ACTIVE_DATA_BYTES: u64 = 64 << 20;
/// Segments of data and elements: one with nothing in it takes time too. Tools that take a snapshot of a
/// program that runs write some ten thousand.
const SEGMENTS: u64 = 128 * 1024;
/// Globals, each set by an expression.
const GLOBALS: u64 = 64 * 1024;
/// Bytes of expressions that instances evaluate: each operator takes time.
const EXPRESSION_BYTES: u64 = 8 << 20;
/// Functions of all modules; a Python interpreter has about 30,000.
const FUNCTIONS: u64 = 256 * 1024;
/// Types, imports, exports, aliases, adapters and all else that is kept by name or number.
const ITEMS: u64 = 256 * 1024;
/// Bytes of component types, which may nest.
const TYPE_BYTES: u64 = 2 << 20;

/// What one function takes of the host's memory beside its code.
const FUNCTION_BYTES: u64 = 48;
/// The same for an item.
const ITEM_BYTES: u64 = 160;
/// The same for a byte of component types.
const TYPE_BYTE_BYTES: u64 = 12;
/// The same for a plugin that has nothing at all.
const PLUGIN_BYTES: u64 = 24 << 10;

/// Sums over a whole component, each module counted as often as it is instantiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    core_instances: u64,
    component_instances: u64,
    passive_elements: u64,
    active_elements: u64,
    active_data_bytes: u64,
    segments: u64,
    globals: u64,
    expression_bytes: u64,
    /// Once, however often they are instantiated: what is kept while the plugin is loaded.
    kept: Kept,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kept {
    functions: u64,
    items: u64,
    type_bytes: u64,
}

impl Demands {
    /// Counts. The component must be valid.
    pub(crate) fn of(component: &[u8]) -> Result<Self, DeployError> {
        let mut count = Count::default();
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.map_err(|error| DeployError::Invalid(error.to_string()))?;
            count
                .add(&payload)
                .map_err(|error| DeployError::Invalid(error.to_string()))?;
        }
        if count.passes_modules {
            return Err(DeployError::TooDemanding(
                "it hands core modules or components from one of its parts to another, so that nobody \
                 can tell how often each is instantiated"
                    .into(),
            ));
        }
        Ok(Self {
            kept: count.kept,
            ..count.whole
        })
    }

    /// Whether the host gives as much to one plugin.
    pub(crate) fn check(&self) -> Result<(), DeployError> {
        let core_instances = u64::from(CORE_INSTANCES_PER_COMPONENT);
        for (has, most, what) in [
            (self.core_instances, core_instances, "core instances"),
            (
                self.component_instances,
                COMPONENT_INSTANCES,
                "component instances",
            ),
            (
                self.passive_elements,
                PASSIVE_ELEMENTS,
                "elements of passive segments in all instances",
            ),
            (
                self.active_elements,
                ACTIVE_ELEMENTS,
                "elements of active segments in all instances",
            ),
            (
                self.active_data_bytes,
                ACTIVE_DATA_BYTES,
                "bytes of active data in all instances",
            ),
            (self.segments, SEGMENTS, "segments in all instances"),
            (self.globals, GLOBALS, "globals in all instances"),
            (
                self.expression_bytes,
                EXPRESSION_BYTES,
                "bytes of constant expressions in all instances",
            ),
            (self.kept.functions, FUNCTIONS, "functions"),
            (
                self.kept.items,
                ITEMS,
                "types, imports, exports, aliases and adapters",
            ),
            (self.kept.type_bytes, TYPE_BYTES, "bytes of component types"),
        ] {
            if has > most {
                return Err(DeployError::TooDemanding(format!(
                    "{has} {what}; {most} at most"
                )));
            }
        }
        Ok(())
    }

    /// What an instance takes of the host's memory before any meter of memory is asked.
    pub(crate) fn instance_bytes(&self) -> u64 {
        self.passive_elements.saturating_mul(PASSIVE_ELEMENT_BYTES)
    }

    /// About what the loaded plugin takes of the host's memory beside its native code.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let Kept {
            functions,
            items,
            type_bytes,
        } = self.kept;
        let sizes = [
            functions.saturating_mul(FUNCTION_BYTES),
            items.saturating_mul(ITEM_BYTES),
            type_bytes.saturating_mul(TYPE_BYTE_BYTES),
        ];
        sizes.into_iter().fold(PLUGIN_BYTES, u64::saturating_add)
    }

    fn plus(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.core_instances, other.core_instances),
            (&mut self.component_instances, other.component_instances),
            (&mut self.passive_elements, other.passive_elements),
            (&mut self.active_elements, other.active_elements),
            (&mut self.active_data_bytes, other.active_data_bytes),
            (&mut self.segments, other.segments),
            (&mut self.globals, other.globals),
            (&mut self.expression_bytes, other.expression_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// The state of a walk through a component.
#[derive(Default)]
struct Count {
    /// The components and the module around the present place, outermost first.
    open: Vec<Room>,
    whole: Demands,
    kept: Kept,
    passes_modules: bool,
}

/// A component or a module, as far as it was read.
#[derive(Default)]
struct Room {
    is_module: bool,
    /// What one instance of it demands.
    each: Demands,
    /// The index spaces of modules and components.
    modules: Vec<Demands>,
    components: Vec<Demands>,
}

impl Count {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), wasmparser::Error> {
        match payload {
            Payload::Version { encoding, .. } => self.open.push(Room {
                is_module: *encoding == wasmparser::Encoding::Module,
                ..Room::default()
            }),
            Payload::End(_) => self.close(),
            _ => {
                self.keep(payload);
                if let Some(room) = self.open.last_mut() {
                    if room.is_module {
                        count_module(&mut room.each, payload)?;
                    } else {
                        self.count_component(payload)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A component or module has ended: whoever is around it can instantiate it from here on.
    fn close(&mut self) {
        let Some(mut room) = self.open.pop() else {
            return;
        };
        if room.is_module {
            room.each.core_instances = room.each.core_instances.saturating_add(1);
        } else {
            room.each.component_instances = room.each.component_instances.saturating_add(1);
        }
        match self.open.last_mut() {
            Some(around) if room.is_module => around.modules.push(room.each),
            Some(around) => around.components.push(room.each),
            None => self.whole = room.each,
        }
    }

    /// Counts what is kept once.
    fn keep(&mut self, payload: &Payload<'_>) {
        let kept = &mut self.kept;
        let items = match payload {
            Payload::FunctionSection(section) => {
                kept.functions += u64::from(section.count());
                0
            }
            Payload::ComponentTypeSection(section) => {
                kept.type_bytes += section.range().len() as u64;
                section.count()
            }
            Payload::TypeSection(section) => section.count(),
            Payload::CoreTypeSection(section) => section.count(),
            Payload::ImportSection(section) => section.count(),
            Payload::ExportSection(section) => section.count(),
            Payload::GlobalSection(section) => section.count(),
            Payload::TableSection(section) => section.count(),
            Payload::TagSection(section) => section.count(),
            Payload::InstanceSection(section) => section.count(),
            Payload::ComponentInstanceSection(section) => section.count(),
            Payload::ComponentAliasSection(section) => section.count(),
            Payload::ComponentCanonicalSection(section) => section.count(),
            Payload::ComponentImportSection(section) => section.count(),
            Payload::ComponentExportSection(section) => section.count(),
            _ => 0,
        };
        kept.items += u64::from(items);
    }

    fn count_component(&mut self, payload: &Payload<'_>) -> Result<(), wasmparser::Error> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(module_index, |room| &room.modules);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                    {
                        self.instantiate(component_index, |room| &room.components);
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.passes_modules |= matches!(
                        import?.ty,
                        ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)
                    );
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.passes_modules |= is_code(export?.kind);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instantiate(&mut self, index: u32, space: fn(&Room) -> &Vec<Demands>) {
        let Some(room) = self.open.last_mut() else {
            return;
        };
        match space(room).get(index as usize).copied() {
            Some(demands) => room.each.plus(&demands),
            None => self.passes_modules = true,
        }
    }

    /// Modules and components of a component further out may be used; those of an instance's exports are
    /// anybody's guess.
    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport { kind, .. } => self.passes_modules |= is_code(*kind),
            ComponentAlias::CoreInstanceExport { .. } => {}
            ComponentAlias::Outer { kind, count, index } => {
                let space: fn(&mut Room) -> &mut Vec<Demands> = match kind {
                    ComponentOuterAliasKind::CoreModule => |room| &mut room.modules,
                    ComponentOuterAliasKind::Component => |room| &mut room.components,
                    ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return,
                };
                let depth = self.open.len().checked_sub(1 + *count as usize);
                let outer = depth.and_then(|depth| self.open.get_mut(depth));
                let found = outer.and_then(|room| space(room).get(*index as usize).copied());
                match (found, self.open.last_mut()) {
                    (Some(demands), Some(room)) => space(room).push(demands),
                    _ => self.passes_modules = true,
                }
            }
        }
    }
}

fn is_code(kind: ComponentExternalKind) -> bool {
    matches!(
        kind,
        ComponentExternalKind::Module | ComponentExternalKind::Component
    )
}

fn count_module(each: &mut Demands, payload: &Payload<'_>) -> Result<(), wasmparser::Error> {
    match payload {
        Payload::ElementSection(section) => {
            each.segments += u64::from(section.count());
            each.expression_bytes += section.range().len() as u64;
            for element in section.clone() {
                let element = element?;
                let elements = match element.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                };
                match element.kind {
                    ElementKind::Passive => each.passive_elements += u64::from(elements),
                    ElementKind::Active { .. } => each.active_elements += u64::from(elements),
                    ElementKind::Declared => {}
                }
            }
        }
        Payload::DataSection(section) => {
            each.segments += u64::from(section.count());
            let mut data_bytes = 0;
            for data in section.clone() {
                let data = data?;
                data_bytes += data.data.len() as u64;
                if let DataKind::Active { .. } = data.kind {
                    each.active_data_bytes += data.data.len() as u64;
                }
            }
            each.expression_bytes += (section.range().len() as u64).saturating_sub(data_bytes);
        }
        Payload::GlobalSection(section) => {
            each.globals += u64::from(section.count());
            each.expression_bytes += section.range().len() as u64;
        }
        // A table's elements may be set by an expression.
        Payload::TableSection(section) => each.expression_bytes += section.range().len() as u64,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(text: &str) -> Demands {
        Demands::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    fn refused(text: &str) -> String {
        let component = wat::parse_str(text).unwrap();
        let checked = Demands::of(&component).and_then(|demands| demands.check());
        checked.unwrap_err().to_string()
    }

    #[test]
    fn a_module_counts_as_often_as_it_is_instantiated() {
        let found = demands(
            r#"(component
              (core module $m
                (memory 1) (table 4 funcref) (func $f) (global i32 (i32.const 1))
                (elem func $f $f $f) (elem (i32.const 0) func $f) (data (i32.const 0) "abcd"))
              (core instance (instantiate $m))
              (core instance (instantiate $m)))"#,
        );
        assert_eq!(found.core_instances, 2);
        assert_eq!((found.passive_elements, found.active_elements), (6, 2));
        assert_eq!((found.active_data_bytes, found.segments), (8, 6));
        assert_eq!((found.globals, found.kept.functions), (2, 1));
        assert_eq!(found.instance_bytes(), 96);
        assert!(found.check().is_ok());
    }

    #[test]
    fn nested_components_multiply() {
        // Five components around one another, each with ten instances of the one inside.
        let mut text =
            String::from("(component $c (core module $m) (core instance (instantiate $m)))");
        for _ in 0..5 {
            let instances = "(instance (instantiate $c))".repeat(10);
            text = format!("(component $c {text} {instances})");
        }
        let found = demands(&text);
        assert_eq!(found.core_instances, 100_000);
        assert!(refused(&text).contains("100000 core instances; 64 at most"));
    }

    #[test]
    fn modules_of_components_further_out_count() {
        let found = demands(
            r#"(component
              (core module $m (func $f) (elem func $f))
              (component $c
                (alias outer 1 $m (core module $n))
                (core instance (instantiate $n)))
              (instance (instantiate $c))
              (instance (instantiate $c)))"#,
        );
        assert_eq!(found.passive_elements, 2);
    }

    #[test]
    fn modules_that_are_handed_around_are_refused() {
        for text in [
            "(component (core module $m) (export \"m\" (core module $m)))",
            "(component
               (component $c (core module $m) (export \"m\" (core module $m)))
               (instance $i (instantiate $c))
               (alias export $i \"m\" (core module $n))
               (core instance (instantiate $n)))",
        ] {
            assert!(refused(text).contains("from one of its parts to another"));
        }
    }

    #[test]
    fn each_limit_has_its_word() {
        let many = |what: &str, times: usize| what.repeat(times);
        let module = |fields: String, instances: usize| {
            let instances = many("(core instance (instantiate $m))", instances);
            format!("(component (core module $m (func $f) {fields}) {instances})")
        };
        for (text, word) in [
            (
                module(format!("(elem func {})", many("$f ", 70_000)), 4),
                "280000 elements of passive segments",
            ),
            (
                module(
                    format!(
                        "(table 70000 funcref) (elem (i32.const 0) func {})",
                        many("$f ", 70_000)
                    ),
                    4,
                ),
                "280000 elements of active segments",
            ),
            (
                module(
                    format!(
                        "(memory 32) (data (i32.const 0) \"{}\")",
                        many("x", 2 << 20)
                    ),
                    33,
                ),
                "bytes of active data",
            ),
            (module(many("(elem func)", 40_000), 4), "160000 segments"),
            (
                module(many("(global i32 (i32.const 1))", 20_000), 4),
                "80000 globals",
            ),
            (
                module(
                    format!(
                        "(global i32 (i32.const 0) {})",
                        many("(i32.const 1) i32.add ", 50_000)
                    ),
                    64,
                ),
                "bytes of constant expressions",
            ),
            (module(many("(func)", 300_000), 1), "300001 functions"),
            (
                module(many("(type (func (param i32)))", 300_000), 1),
                "types, imports, exports",
            ),
            (
                format!(
                    "(component {})",
                    many(
                        "(type (record (field \"a\" u8) (field \"b\" u8) (field \"c\" u8)))",
                        250_000
                    )
                ),
                "bytes of component types",
            ),
        ] {
            let refusal = refused(&text);
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    }
}
