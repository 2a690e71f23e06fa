package main

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/spillway-dev/spillway/internal/manual"
)

// privilegesText lists, for each workload of the chart, what its pods have that the Pod Security level restricted forbids.
func privilegesText(objects []object) (string, error) {
	var b strings.Builder
	b.WriteString("| pods of | have | why |\n|---|---|---|\n")
	for _, o := range objects {
		pod := get(o.node, "spec", "template", "spec")
		if pod == nil {
			continue
		}
		workload := fmt.Sprintf("%s `%s/%s`", o.kind, o.namespace, o.name)
		found := privileges(pod)
		if len(found) == 0 {
			fmt.Fprintf(&b, "| %s | nothing beyond the level restricted | |\n", workload)
		}
		for _, p := range found {
			if p.why == "" {
				return "", fmt.Errorf("%s has %s, and no comment says why", workload, p.what)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", workload, p.what, manual.Cell(p.why))
		}
	}
	return b.String(), nil
}

type privilege struct{ what, why string }

// privileges of a pod: the host's namespaces, paths of the host, and what containers have beyond a plain user.
func privileges(pod *yaml.Node) []privilege {
	var out []privilege
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if text(pod, key) == "true" {
			out = append(out, privilege{"`" + key + "`", commentOf(pod, key)})
		}
	}
	for _, volume := range items(pod, "volumes") {
		if path := text(volume, "hostPath", "path"); path != "" {
			out = append(out, privilege{"the node's `" + path + "`", comment(volume.HeadComment, firstKey(volume), commentOf(volume, "hostPath"))})
		}
	}
	out = append(out, contextPrivileges(get(pod, "securityContext"))...)
	for _, list := range []string{"initContainers", "containers"} {
		for _, container := range items(pod, list) {
			out = append(out, contextPrivileges(get(container, "securityContext"))...)
		}
	}
	return out
}

func contextPrivileges(context *yaml.Node) []privilege {
	var out []privilege
	for _, key := range []string{"privileged", "allowPrivilegeEscalation"} {
		if text(context, key) == "true" {
			out = append(out, privilege{"`" + key + "`", commentOf(context, key)})
		}
	}
	if text(context, "runAsUser") == "0" {
		out = append(out, privilege{"user 0 (root)", commentOf(context, "runAsUser")})
	}
	if capabilities := get(context, "capabilities"); capabilities != nil {
		shared := commentOf(capabilities, "add")
		for _, c := range items(capabilities, "add") {
			out = append(out, privilege{"capability `" + c.Value + "`", comment(c.HeadComment, c.LineComment, shared)})
		}
	}
	for _, key := range []string{"seccompProfile", "appArmorProfile"} {
		if text(context, key, "type") == "Unconfined" {
			out = append(out, privilege{"`" + key + "`: Unconfined", commentOf(context, key)})
		}
	}
	return out
}

// commentOf is the comment above or beside a key of a mapping.
func commentOf(n *yaml.Node, key string) string {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return strings.TrimSpace(comment(n.Content[i].HeadComment, n.Content[i+1].HeadComment, n.Content[i+1].LineComment))
		}
	}
	return ""
}
