// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

const generated = "<!-- Written by `make generate` from pkg/apis: change it there. -->\n"

func kindPage(definition *apiextensionsv1.CustomResourceDefinition, constants []constant) string {
	version := definition.Spec.Versions[0]
	schema := version.Schema.OpenAPIV3Schema
	names := definition.Spec.Names
	page := &strings.Builder{}
	fmt.Fprintf(page, "# %s\n\n%s\n`apiVersion: %s/%s`, %s-scoped; `kubectl get %s`, in short `%s`.\n\n%s\n\n",
		names.Kind, generated, definition.Spec.Group, version.Name, strings.ToLower(string(definition.Spec.Scope)),
		names.Plural, strings.Join(names.ShortNames, ", "), paragraph(schema.Description))
	fmt.Fprint(page, "The API server checks what an object alone shows; the rules stand with the fields. A field without *required* may be left out.\n\n")
	objects(page, "spec", schema.Properties["spec"])
	objects(page, "status", schema.Properties["status"])

	table(page, "Conditions", "What they mean; reasons and messages say why one is as it is.", "condition", prefixed(constants, "Condition"))
	table(page, "Reasons", "", "reason", prefixed(constants, "Reason"))
	fmt.Fprint(page, "## Columns of `kubectl get`\n\n| column | of | |\n| --- | --- | --- |\n")
	for _, column := range version.AdditionalPrinterColumns {
		wide := ""
		if column.Priority > 0 {
			wide = "with `-o wide`"
		}
		fmt.Fprintf(page, "| %s | `%s` | %s |\n", strings.ToUpper(column.Name), column.JSONPath, wide)
	}
	return page.String()
}

func labelsPage(constants []constant) string {
	page := &strings.Builder{}
	fmt.Fprintf(page, "# Labels and annotations\n\n%s\n", generated)
	table(page, "Labels of nodes", "Those of dovetail.dev, and the label of the ENIConfig, may be named in a NodePool's requirements.", "label", prefixed(constants, "Label"))
	table(page, "Annotations", "On NodeClaims and Nodes; Dovetail's own, except where the text says otherwise.", "annotation", prefixed(constants, "Annotation"))
	table(page, "Conditions of nodes", "", "condition", prefixed(constants, "Condition"))
	return strings.TrimSuffix(page.String(), "\n")
}

// objects writes a section for an object, and after it those of the objects in it.
func objects(page *strings.Builder, path string, object apiextensionsv1.JSONSchemaProps) {
	fmt.Fprintf(page, "## %s\n\n", path)
	if object.Description != "" {
		fmt.Fprintf(page, "%s\n\n", paragraph(object.Description))
	}
	rules := validations(object)
	for _, rule := range rules {
		fmt.Fprintf(page, "* %s\n", rule)
	}
	if len(rules) > 0 {
		fmt.Fprintln(page)
	}
	fmt.Fprint(page, "| field | type | default | meaning |\n| --- | --- | --- | --- |\n")
	type nested struct {
		path   string
		schema apiextensionsv1.JSONSchemaProps
	}
	var inside []nested
	for _, name := range slices.Sorted(maps.Keys(object.Properties)) {
		field := object.Properties[name]
		meaning := []string{paragraph(field.Description)}
		if slices.Contains(object.Required, name) && !strings.HasPrefix(path, "status") {
			meaning[0] = "*required* " + meaning[0]
		}
		if below, ok := descend(field); ok {
			suffix := ""
			if field.Type == "array" {
				suffix = "[]"
			}
			inside = append(inside, nested{path + "." + name + suffix, below})
			meaning = []string{fmt.Sprintf("[%s.%s%s](#%s)", path, name, suffix, anchor(path+"."+name+suffix))}
			if field.Type == "array" && field.Description != "" {
				meaning = append(meaning, paragraph(field.Description))
			}
		} else {
			meaning = append(meaning, validations(field)...)
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", name, typeName(field), defaultOf(field), cell(strings.TrimSpace(strings.Join(meaning, " "))))
	}
	fmt.Fprintln(page)
	for _, n := range inside {
		objects(page, n.path, n.schema)
	}
}

// descend returns the object that a field holds, one or many, where it has fields of its own to tell of. Kubernetes' own are known.
func descend(field apiextensionsv1.JSONSchemaProps) (apiextensionsv1.JSONSchemaProps, bool) {
	if field.Type == "array" && field.Items != nil && field.Items.Schema != nil {
		field = *field.Items.Schema
	}
	return field, field.Type == "object" && len(field.Properties) > 0 && !isSelector(field) && !isCondition(field)
}

func isSelector(s apiextensionsv1.JSONSchemaProps) bool {
	_, labels := s.Properties["matchLabels"]
	_, expressions := s.Properties["matchExpressions"]
	return labels && expressions
}

func isCondition(s apiextensionsv1.JSONSchemaProps) bool {
	_, ok := s.Properties["lastTransitionTime"]
	return ok
}

func typeName(s apiextensionsv1.JSONSchemaProps) string {
	switch {
	case isSelector(s):
		return "[label selector](https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors)"
	case isCondition(s):
		return "condition"
	case s.XIntOrString:
		return "number or share"
	case len(s.Enum) > 0:
		var values []string
		for _, value := range s.Enum {
			values = append(values, "`"+unquoted(value)+"`")
		}
		return strings.Join(values, ", ")
	case s.Type == "array":
		return "list of " + typeName(*s.Items.Schema)
	case s.Type == "object" && s.AdditionalProperties != nil:
		return "map to " + typeName(*s.AdditionalProperties.Schema)
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

func defaultOf(s apiextensionsv1.JSONSchemaProps) string {
	if s.Default == nil || string(s.Default.Raw) == "{}" {
		return ""
	}
	return "`" + unquoted(*s.Default) + "`"
}

func unquoted(value apiextensionsv1.JSON) string {
	var text string
	if json.Unmarshal(value.Raw, &text) == nil {
		return text
	}
	return string(value.Raw)
}

// validations says the rules of a field or object, and of the items of a list.
func validations(s apiextensionsv1.JSONSchemaProps) (rules []string) {
	for _, rule := range s.XValidations {
		rules = append(rules, "Rule: "+strings.TrimSuffix(rule.Message, ".")+".")
	}
	bounds := func(what string, lowest, highest any, unit string) {
		switch {
		case lowest != "" && highest != "":
			rules = append(rules, fmt.Sprintf("%s %s to %s%s.", what, lowest, highest, unit))
		case lowest != "":
			rules = append(rules, fmt.Sprintf("%s at least %s%s.", what, lowest, unit))
		case highest != "":
			rules = append(rules, fmt.Sprintf("%s at most %s%s.", what, highest, unit))
		}
	}
	bounds("Value:", number(s.Minimum), number(s.Maximum), "")
	bounds("Length:", number(s.MinLength), number(s.MaxLength), "")
	bounds("Holds", number(s.MinItems), number(s.MaxItems), " entries")
	bounds("Holds", number(s.MinProperties), number(s.MaxProperties), " entries")
	if s.Pattern != "" {
		rules = append(rules, "Pattern: `"+s.Pattern+"`.")
	}
	if s.Type == "array" && s.Items != nil && s.Items.Schema != nil && s.Items.Schema.Type != "object" {
		for _, rule := range validations(*s.Items.Schema) {
			rules = append(rules, "Each: "+strings.ToLower(rule[:1])+rule[1:])
		}
	}
	return rules
}

func number[N int64 | float64](n *N) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func table(page *strings.Builder, title, preface, column string, constants []constant) {
	if len(constants) == 0 {
		return
	}
	fmt.Fprintf(page, "## %s\n\n", title)
	if preface != "" {
		fmt.Fprintf(page, "%s\n\n", preface)
	}
	fmt.Fprintf(page, "| %s | meaning |\n| --- | --- |\n", column)
	for _, c := range constants {
		fmt.Fprintf(page, "| `%s` | %s |\n", c.Value, cell(meaningOf(c)))
	}
	fmt.Fprintln(page)
}

// meaningOf a constant is its comment without the name in Go, which begins it.
func meaningOf(c constant) string {
	doc := strings.TrimPrefix(paragraph(c.Doc), c.Name)
	doc = strings.TrimSpace(strings.TrimPrefix(doc, ":"))
	doc = strings.TrimPrefix(doc, "is ")
	if doc == "" || strings.HasPrefix(doc, "spec.") {
		return doc
	}
	return strings.ToUpper(doc[:1]) + doc[1:]
}

var breaks = regexp.MustCompile(`\s*\n\s*`)

// paragraph is a comment on one line, without the markers of code generators.
func paragraph(comment string) string {
	var lines []string
	for line := range strings.Lines(comment) {
		if !strings.HasPrefix(strings.TrimSpace(line), "+") {
			lines = append(lines, line)
		}
	}
	return breaks.ReplaceAllString(strings.TrimSpace(strings.Join(lines, "")), " ")
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// anchor of a heading, as GitHub makes it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, heading)
}
