package main

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/internal/manual"
)

const fieldsHead = `<!-- make generate writes this page from the CRDs, and those from peering/v1alpha1. -->
# Fields

Every field of every kind of the group ` + "`spillway.dev/v1alpha1`" + `. ` + "`kubectl explain`" + ` says the same. What the kinds are for is in
[concepts.md](concepts.md), [policies.md](policies.md), [bursting.md](bursting.md) and [migration.md](migration.md). A field in bold has to be given. What
stands under *allowed* is checked by the API server.
`

// fieldsPage describes all kinds of the chart.
func fieldsPage(chart fs.FS) (string, error) {
	files, err := crdFiles(chart)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(fieldsHead)
	for _, name := range files {
		text, err := fs.ReadFile(chart, name)
		if err != nil {
			return "", err
		}
		var crd apiextensions.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
		b.WriteString(kindText(crd))
	}
	return b.String(), nil
}

// crdFiles are the files with CRDs, wherever in the chart they are.
func crdFiles(chart fs.FS) ([]string, error) {
	var files []string
	for _, pattern := range []string{"files/crds/*.yaml", "crds/*.yaml"} {
		found, err := fs.Glob(chart, pattern)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the chart has no CRDs")
	}
	return files, nil
}

// described is an object whose fields get a table.
type described struct {
	title  string
	schema apiextensions.JSONSchemaProps
}

func kindText(crd apiextensions.CustomResourceDefinition) string {
	kind := crd.Spec.Names.Kind
	version := crd.Spec.Versions[0]
	root := *version.Schema.OpenAPIV3Schema
	scope := "It belongs to a namespace."
	if crd.Spec.Scope == apiextensions.ClusterScoped {
		scope = "It belongs to no namespace."
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s\n", kind, paragraphs(root.Description), scope)
	b.WriteString(rulesText(root.XValidations))
	for _, part := range []string{"spec", "status"} {
		if schema, ok := root.Properties[part]; ok {
			for _, o := range objectsOf(described{kind + " " + part, schema}) {
				b.WriteString(objectText(o))
			}
		}
	}
	return b.String()
}

// objectsOf is o and, after it, every object below it that has fields of its own.
func objectsOf(o described) []described {
	out := []described{o}
	for _, name := range fieldNames(o.schema) {
		inner, suffix := innermost(o.schema.Properties[name])
		if known(inner) == "" && len(inner.Properties) > 0 {
			out = append(out, objectsOf(described{o.title + "." + name + suffix, inner})...)
		}
	}
	return out
}

// innermost is what a list or map has as elements, and how its path is written.
func innermost(s apiextensions.JSONSchemaProps) (apiextensions.JSONSchemaProps, string) {
	switch {
	case s.Items != nil && s.Items.Schema != nil:
		inner, suffix := innermost(*s.Items.Schema)
		return inner, "[]" + suffix
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		inner, suffix := innermost(*s.AdditionalProperties.Schema)
		return inner, "{}" + suffix
	}
	return s, ""
}

func fieldNames(s apiextensions.JSONSchemaProps) []string {
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func objectText(o described) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n", o.title)
	if o.schema.Description != "" {
		b.WriteString(paragraphs(o.schema.Description) + "\n\n")
	}
	b.WriteString("| field | type | default | allowed | what it says |\n|---|---|---|---|---|\n")
	for _, name := range fieldNames(o.schema) {
		b.WriteString(fieldRow(o, name))
	}
	rules := slices.DeleteFunc(slices.Clone(o.schema.XValidations), func(r apiextensions.ValidationRule) bool { return r.FieldPath != "" })
	return b.String() + rulesText(rules)
}

func fieldRow(o described, name string) string {
	field := o.schema.Properties[name]
	shown := "`" + name + "`"
	if slices.Contains(o.schema.Required, name) {
		shown = "**" + shown + "**"
	}
	fallback := ""
	if field.Default != nil {
		fallback = "`" + strings.Trim(string(field.Default.Raw), `"`) + "`"
	}
	inner, suffix := innermost(field)
	says := []string{sentences(field.Description)}
	rules := slices.DeleteFunc(slices.Clone(o.schema.XValidations), func(r apiextensions.ValidationRule) bool { return r.FieldPath != "."+name })
	if len(inner.Properties) == 0 || suffix != "" {
		rules = append(rules, field.XValidations...)
	}
	if len(inner.Properties) == 0 && suffix != "" {
		rules = append(rules, inner.XValidations...)
	}
	for _, rule := range rules {
		says = append(says, ruleText(rule))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", shown, typeText(field, o.title+"."+name+suffix), fallback, allowed(field), strings.Join(says, " "))
}

// typeText says what a value is; at is the title of the section about what is in it.
func typeText(s apiextensions.JSONSchemaProps, at string) string {
	switch {
	case known(s) != "":
		return known(s)
	case s.XIntOrString:
		return "quantity"
	case s.Items != nil && s.Items.Schema != nil:
		return "list of " + plural(typeText(*s.Items.Schema, at))
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map to " + plural(typeText(*s.AdditionalProperties.Schema, at))
	case len(s.Properties) > 0:
		return "[object](#" + anchor(at) + ")"
	case s.Format == "date-time":
		return "time"
	case s.Format == "byte":
		return "base64"
	}
	return s.Type
}

func plural(kind string) string {
	switch {
	case strings.HasPrefix(kind, "[object]"):
		return strings.Replace(kind, "[object]", "[objects]", 1)
	case kind == "quantity":
		return "quantities"
	}
	return kind + "s"
}

// known names types of Kubernetes, which its own reference describes.
func known(s apiextensions.JSONSchemaProps) string {
	has := func(names ...string) bool {
		return len(s.Properties) == len(names) && !slices.ContainsFunc(names, func(n string) bool { _, ok := s.Properties[n]; return !ok })
	}
	switch {
	case has("matchExpressions", "matchLabels"):
		return "label selector"
	case has("lastTransitionTime", "message", "observedGeneration", "reason", "status", "type"):
		return "condition"
	case has("effect", "key", "operator", "tolerationSeconds", "value"):
		return "toleration"
	}
	return ""
}

// allowed says which values a field can have.
func allowed(s apiextensions.JSONSchemaProps) string {
	var out []string
	for _, value := range s.Enum {
		out = append(out, "`"+strings.Trim(string(value.Raw), `"`)+"`")
	}
	out = append(out, span(number(s.Minimum), number(s.Maximum), "")...)
	out = append(out, span(count(s.MinLength), count(s.MaxLength), "characters")...)
	out = append(out, span(count(s.MinItems), count(s.MaxItems), "entries")...)
	out = append(out, span(count(s.MinProperties), count(s.MaxProperties), "entries")...)
	if s.Pattern != "" {
		out = append(out, "`"+strings.ReplaceAll(s.Pattern, "|", `\|`)+"`")
	}
	if s.Items != nil && s.Items.Schema != nil && known(*s.Items.Schema) == "" {
		if each := allowed(*s.Items.Schema); each != "" {
			out = append(out, "each: "+each)
		}
	}
	return strings.Join(out, ", ")
}

// span says a range of which either end may be open.
func span(from, to, unit string) []string {
	text := ""
	switch {
	case from != "" && to != "":
		text = from + " – " + to
	case from != "":
		text = "at least " + from
	case to != "":
		text = "at most " + to
	default:
		return nil
	}
	return []string{strings.TrimSpace(text + " " + unit)}
}

func number(n *float64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

func count(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// rulesText lists what has to hold among the fields of an object.
func rulesText(rules []apiextensions.ValidationRule) string {
	if len(rules) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nRules among these:\n\n")
	for _, rule := range rules {
		b.WriteString("- " + strings.TrimPrefix(ruleText(rule), "*Rule:* ") + "\n")
	}
	return b.String()
}

// ruleText is the message that a user is given; a rule that looks at the old value is about changes.
func ruleText(rule apiextensions.ValidationRule) string {
	text := strings.TrimRight(manual.Cell(rule.Message), ".") + "."
	if strings.Contains(rule.Rule, "oldSelf") {
		return "*Immutable:* " + text
	}
	return "*Rule:* " + text
}

// sentences is a description on one line.
func sentences(text string) string { return manual.Cell(text) }

// paragraphs is a description as prose.
func paragraphs(text string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(strings.TrimSpace(text))
}

// anchor is the name that renderers of Markdown give a heading.
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}
