package main

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/internal/manual"
)

// securityPage puts what the chart grants into the page old, with the comments of the templates as reasons.
func securityPage(old string) (string, error) {
	manifests, err := charts.Render(nil, charts.RenderOptions{})
	if err != nil {
		return "", err
	}
	objects, err := parse(manifests)
	if err != nil {
		return "", err
	}
	for _, part := range []struct {
		name string
		text func([]object) (string, error)
	}{
		{"rights", rightsText},
		{"tenant rights", tenantText},
		{"tenant refusals", refusalsText},
		{"privileges", privilegesText},
	} {
		text, err := part.text(objects)
		if err != nil {
			return "", err
		}
		if old, err = between(old, part.name, text); err != nil {
			return "", err
		}
	}
	return old, nil
}

// object is one of the chart, with its comments.
type object struct {
	kind, namespace, name string
	why                   string // the comment above it
	node                  *yaml.Node
}

func parse(manifests []charts.Manifest) ([]object, error) {
	var out []object
	for _, m := range manifests {
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(m.Text), &document); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", m.Kind, m.Name, err)
		}
		root := document.Content[0]
		out = append(out, object{
			kind: m.Kind, namespace: m.Namespace, name: m.Name,
			why: comment(document.HeadComment, root.HeadComment, root.Content[0].HeadComment), node: root,
		})
	}
	return out, nil
}

// comment is the first of some comments that says something, as a sentence.
func comment(candidates ...string) string {
	for _, c := range candidates {
		var words []string
		for _, line := range strings.Split(c, "\n") {
			line = strings.TrimSpace(strings.TrimLeft(line, "# "))
			if !strings.HasPrefix(line, "Source: ") {
				words = append(words, line)
			}
		}
		if text := strings.TrimSpace(strings.Join(words, " ")); text != "" {
			return strings.ToUpper(text[:1]) + strings.TrimRight(text[1:], ".") + "."
		}
	}
	return ""
}

// get follows keys through mappings; nil when there is nothing.
func get(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		i := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c.Value == key })
		if i < 0 || i%2 != 0 {
			return nil
		}
		n = n.Content[i+1]
	}
	return n
}

func text(n *yaml.Node, keys ...string) string {
	if found := get(n, keys...); found != nil {
		return found.Value
	}
	return ""
}

// items are the elements of a list; none when there is no list.
func items(n *yaml.Node, keys ...string) []*yaml.Node {
	if found := get(n, keys...); found != nil && found.Kind == yaml.SequenceNode {
		return found.Content
	}
	return nil
}

func values(n *yaml.Node, keys ...string) []string {
	var out []string
	for _, item := range items(n, keys...) {
		out = append(out, item.Value)
	}
	return out
}

// grant is one reason and the rights it is the reason of.
type grant struct {
	scope, why string
	rights     []string
}

// rightsText has a table for each ServiceAccount that the chart binds.
func rightsText(objects []object) (string, error) {
	accounts := map[string][]grant{}
	for _, binding := range objects {
		if binding.kind != "ClusterRoleBinding" && binding.kind != "RoleBinding" {
			continue
		}
		for _, subject := range items(binding.node, "subjects") {
			if text(subject, "kind") != "ServiceAccount" {
				return "", fmt.Errorf("%s %s is not for a ServiceAccount", binding.kind, binding.name)
			}
			account := text(subject, "namespace") + "/" + text(subject, "name")
			granted, err := grantsOf(objects, binding)
			if err != nil {
				return "", err
			}
			accounts[account] = append(accounts[account], granted...)
		}
	}
	var b strings.Builder
	for _, account := range sortedKeys(accounts) {
		fmt.Fprintf(&b, "\n### ServiceAccount `%s`\n\n%s", account, grantsTable(accounts[account]))
	}
	return strings.TrimPrefix(b.String(), "\n"), nil
}

// grantsOf is what a binding gives: the rules of its role, or the role's name where the chart does not make it.
func grantsOf(objects []object, binding object) ([]grant, error) {
	scope := "the cluster"
	if binding.kind == "RoleBinding" {
		scope = "`" + binding.namespace + "`"
	}
	kind, name := text(binding.node, "roleRef", "kind"), text(binding.node, "roleRef", "name")
	i := slices.IndexFunc(objects, func(o object) bool {
		return o.kind == kind && o.name == name && (kind == "ClusterRole" || o.namespace == binding.namespace)
	})
	if i < 0 {
		if binding.why == "" {
			return nil, fmt.Errorf("%s %s has no comment that says why", binding.kind, binding.name)
		}
		return []grant{{scope, binding.why, []string{fmt.Sprintf("what Kubernetes' %s `%s` allows", kind, name)}}}, nil
	}
	return roleGrants(objects[i], scope)
}

// roleGrants goes through the rules of a role. A rule without a comment has the reason of the one before.
func roleGrants(role object, scope string) ([]grant, error) {
	grants := []grant{{scope: scope, why: role.why}}
	for _, rule := range items(role.node, "rules") {
		if why := comment(rule.HeadComment, firstKey(rule)); why != "" {
			grants = append(grants, grant{scope: scope, why: why})
		}
		last := &grants[len(grants)-1]
		if last.why == "" {
			return nil, fmt.Errorf("%s %s has a rule without a comment that says why: %s", role.kind, role.name, right(rule))
		}
		last.rights = append(last.rights, right(rule))
	}
	return slices.DeleteFunc(grants, func(g grant) bool { return len(g.rights) == 0 }), nil
}

func firstKey(n *yaml.Node) string {
	if len(n.Content) == 0 {
		return ""
	}
	return n.Content[0].HeadComment
}

// right is a rule on one line.
func right(rule *yaml.Node) string {
	group := strings.Join(values(rule, "apiGroups"), ", ")
	what := strings.Join(values(rule, "resources"), ", ")
	if urls := values(rule, "nonResourceURLs"); len(urls) > 0 {
		what = strings.Join(urls, ", ")
	}
	line := "`" + what + "`"
	if group != "" {
		line += " (" + group + ")"
	}
	if names := values(rule, "resourceNames"); len(names) > 0 {
		line += " named `" + strings.Join(names, "`, `") + "`"
	}
	return line + ": " + strings.Join(values(rule, "verbs"), ", ")
}

func grantsTable(grants []grant) string {
	var b strings.Builder
	b.WriteString("| in | may | why |\n|---|---|---|\n")
	for _, g := range grants {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", g.scope, strings.Join(g.rights, "<br>"), manual.Cell(g.why))
	}
	return b.String()
}

// tenantText is about the roles that spillwayd gives to tenants: those that the chart binds to nobody.
func tenantText(objects []object) (string, error) {
	var b strings.Builder
	for _, role := range objects {
		if role.kind != "ClusterRole" || bound(objects, role.name) {
			continue
		}
		grants, err := roleGrants(role, "")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n**`%s`**: %s\n\n| may | why |\n|---|---|\n", role.name, role.why)
		for _, g := range grants {
			why := manual.Cell(g.why)
			if g.why == role.why {
				why = ""
			}
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(g.rights, "<br>"), why)
		}
	}
	return strings.TrimPrefix(b.String(), "\n"), nil
}

func bound(objects []object, role string) bool {
	return slices.ContainsFunc(objects, func(o object) bool {
		return strings.HasSuffix(o.kind, "RoleBinding") && text(o.node, "roleRef", "name") == role
	})
}

// refusalsText has what the API server refuses to tenants, in its own words.
func refusalsText(objects []object) (string, error) {
	var b strings.Builder
	b.WriteString("| policy | what it refuses with | why |\n|---|---|---|\n")
	for _, o := range objects {
		if o.kind != "ValidatingAdmissionPolicy" {
			continue
		}
		var words []string
		for _, validation := range items(o.node, "spec", "validations") {
			words = append(words, manual.Cell(text(validation, "message")))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", o.name, strings.Join(words, "<br>"), manual.Cell(o.why))
	}
	return b.String(), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
