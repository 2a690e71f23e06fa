package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/spillway-dev/spillway/charts"
)

const crd = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.spillway.dev}
spec:
  group: spillway.dev
  names: {kind: Thing, plural: things}
  scope: Cluster
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: Thing is <one> of them.
        properties:
          spec:
            type: object
            description: spec says what is wanted.
            required: [name]
            properties:
              name:
                type: string
                maxLength: 40
                enum: [a, b]
                description: name of it, a|b.
                x-kubernetes-validations:
                - {rule: self == oldSelf, message: the name cannot be changed}
              parts:
                type: array
                maxItems: 3
                description: parts of it.
                items:
                  type: object
                  properties:
                    percent: {type: integer, minimum: 1, maximum: 100, default: 100, description: percent of all.}
            x-kubernetes-validations:
            - {rule: has(self.parts), message: give parts}
`

func TestFieldsPage(t *testing.T) {
	text, err := fieldsPage(fstest.MapFS{"files/crds/things.yaml": {Data: []byte(crd)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## Thing\n\nThing is &lt;one&gt; of them.\n\nIt belongs to no namespace.\n",
		"### Thing spec\n\nspec says what is wanted.\n",
		"| **`name`** | string |  | `a`, `b`, at most 40 characters | name of it, a\\|b. *Immutable:* the name cannot be changed. |\n",
		"| `parts` | list of [objects](#thing-specparts) |  | at most 3 entries | parts of it. |\n",
		"Rules among these:\n\n- give parts.\n",
		"### Thing spec.parts[]\n",
		"| `percent` | integer | `100` | 1 – 100 | percent of all. |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func manifest(t *testing.T, kind, namespace, name, text string) object {
	t.Helper()
	objects, err := parse([]charts.Manifest{{Kind: kind, Namespace: namespace, Name: name, Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}

func TestRights_ReasonsAreComments(t *testing.T) {
	role := manifest(t, "ClusterRole", "", "reader", "kind: ClusterRole\nrules:\n  # to read\n  # pods\n  - {apiGroups: [\"\"], resources: [pods], verbs: [get, list]}\n"+
		"  - {apiGroups: [apps], resources: [deployments], resourceNames: [web], verbs: [get]}\n")
	binding := manifest(t, "RoleBinding", "shop", "reader", "kind: RoleBinding\nroleRef: {kind: ClusterRole, name: reader}\nsubjects:\n  - {kind: ServiceAccount, name: bob, namespace: team}\n")
	text, err := rightsText([]object{role, binding})
	if err != nil {
		t.Fatal(err)
	}
	const want = "### ServiceAccount `team/bob`\n\n| in | may | why |\n|---|---|---|\n" +
		"| `shop` | `pods`: get, list<br>`deployments` (apps) named `web`: get | To read pods. |\n"
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestRights_EachHasAReason(t *testing.T) {
	role := manifest(t, "ClusterRole", "", "reader", "kind: ClusterRole\nrules:\n  - {apiGroups: [\"\"], resources: [pods], verbs: [get]}\n")
	if _, err := roleGrants(role, "the cluster"); err == nil || !strings.Contains(err.Error(), "without a comment") {
		t.Errorf("a rule that nobody explains was taken: %v", err)
	}
}

func TestPrivileges(t *testing.T) {
	const pod = `kind: DaemonSet
spec:
  template:
    spec:
      hostNetwork: true # it is about that
      volumes:
        # what is kept
        - name: state
          hostPath: {path: /var/lib/x}
        - name: own
          emptyDir: {}
      containers:
        - name: agent
          securityContext:
            allowPrivilegeEscalation: false
            capabilities:
              drop: [ALL]
              add:
                # links and routes
                - NET_ADMIN
`
	text, err := privilegesText([]object{manifest(t, "DaemonSet", "n", "agent", pod), manifest(t, "Deployment", "n", "plain", "kind: Deployment\nspec: {template: {spec: {containers: []}}}\n")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| DaemonSet `n/agent` | `hostNetwork` | It is about that. |\n",
		"| DaemonSet `n/agent` | the node's `/var/lib/x` | What is kept. |\n",
		"| DaemonSet `n/agent` | capability `NET_ADMIN` | Links and routes. |\n",
		"| Deployment `n/plain` | nothing beyond the level restricted | |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if _, err := privilegesText([]object{manifest(t, "DaemonSet", "n", "agent", strings.Replace(pod, " # it is about that", "", 1))}); err == nil {
		t.Error("a privilege that nobody explains was taken")
	}
}
