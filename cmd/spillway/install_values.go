package main

import (
	"fmt"
	"regexp"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli"
	helmvalues "helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/getter"
)

// valueFlags are the flags that say what differs from the chart's values.
type valueFlags struct {
	files []string
	set   []string
	reset bool // forget the values of the release
}

// read merges files and settings, later ones over earlier ones.
func (f valueFlags) read() (map[string]any, error) {
	options := helmvalues.Options{ValueFiles: f.files, Values: f.set}
	values, err := options.MergeValues(getter.All(&cli.EnvSettings{}))
	if err != nil {
		return nil, usagef("Write --set PATH=VALUE, and give --values YAML files that exist.", "the values cannot be read: %s", err)
	}
	return values, nil
}

// mergeValues puts given over what a release has.
func mergeValues(given, had map[string]any) map[string]any {
	return chartutil.CoalesceTables(chartutil.CoalesceTables(map[string]any{}, given), had)
}

// checkValues refuses values that the chart's schema does not know, each with its path.
func checkValues(ch *chart.Chart, values map[string]any) error {
	full, err := chartutil.CoalesceValues(ch, mergeValues(values, nil))
	if err != nil {
		return usagef("Compare them with the chart's values.", "the values do not fit the chart: %s", err)
	}
	if len(ch.Schema) == 0 {
		return nil
	}
	if err := chartutil.ValidateAgainstSingleSchema(full, ch.Schema); err != nil {
		wrong := schemaWords(err.Error())
		return usagef("Correct them in --values or --set; charts/spillway/values.yaml describes each.", "%s:\n  - %s",
			plural(len(wrong), "value")+" the chart does not take", strings.Join(wrong, "\n  - "))
	}
	return nil
}

// schemaWords takes from the text of a schema error its leaves, each as "path: what is wrong", the path as in --set.
func schemaWords(text string) []string {
	leaf := regexp.MustCompile(`^(\s*)- at '([^']*)': (.*)$`)
	lines := strings.Split(text, "\n")
	var words []string
	for i, line := range lines {
		found := leaf.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if i+1 < len(lines) {
			if below := leaf.FindStringSubmatch(lines[i+1]); below != nil && len(below[1]) > len(found[1]) {
				continue // the lines below say more exactly what is wrong
			}
		}
		words = append(words, pathOf(found[2])+": "+found[3])
	}
	if len(words) == 0 {
		return []string{strings.TrimSpace(text)}
	}
	return words
}

// pathOf turns a JSON pointer into a path as in --set: /a/b/0 becomes a.b[0].
func pathOf(pointer string) string {
	if pointer == "" {
		return "(top level)"
	}
	var path strings.Builder
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch {
		case strings.Trim(part, "0123456789") == "" && path.Len() > 0:
			fmt.Fprintf(&path, "[%s]", part)
		case path.Len() > 0:
			path.WriteString("." + part)
		default:
			path.WriteString(part)
		}
	}
	return path.String()
}
