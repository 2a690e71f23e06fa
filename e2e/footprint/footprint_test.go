package footprint

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestDiff_TellsWhatCameWentAndChanged(t *testing.T) {
	before := Footprint{"link eth0": {"mtu 1500", "up"}, "link spillway0": {"mtu 1420"}, "route -4 default": nil}
	now := Footprint{"link eth0": {"up", "mtu 1400"}, "route -4 default": nil, "file /etc/x": {"f 644"}}
	want := []string{"- link spillway0", "+ file /etc/x", "~ link eth0: was mtu 1500", "~ link eth0: now mtu 1400"}
	if d := cmp.Diff(want, Diff(before, now)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := Diff(before, before); got != nil {
		t.Errorf("of the same: %q", got)
	}
}

// object is what TestObjects_ starts from.
const object = `
apiVersion: v1
kind: Node
metadata: {name: a, uid: u, resourceVersion: "5", generation: 3, managedFields: [{manager: m}], labels: {x/y: z}}
spec: {taints: []}
status:
  conditions: [{type: Ready, status: "True", lastHeartbeatTime: t, lastTransitionTime: t}]
  images: [{names: [i]}]
`

func TestObjects_WhatChangesByItselfIsLeftOut(t *testing.T) {
	f := Footprint{}
	f.addObject("nodes", parse(t, object))
	want := Footprint{"nodes a": {
		`metadata.labels.x/y = "z"`, `metadata.name = "a"`, `metadata.uid = "u"`, `spec.taints = []`,
		`status.conditions[0].status = "True"`, `status.conditions[0].type = "Ready"`,
	}}
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestObjects_WhatCounts(t *testing.T) {
	for name, row := range map[string]struct {
		kind, before, now string
		want              []string
	}{
		"another of the same name": {"configmaps", "metadata: {name: a, uid: u}", "metadata: {name: a, uid: v}",
			[]string{`~ configmaps a: was metadata.uid = "u"`, `~ configmaps a: now metadata.uid = "v"`}},
		"a label": {"nodes", "metadata: {name: a}", "metadata: {name: a, labels: {spillway.dev/gateway: ''}}",
			[]string{`~ nodes a: now metadata.labels.spillway.dev/gateway = ""`}},
		"a Lease is renewed": {"leases.coordination.k8s.io", "metadata: {name: a}\nspec: {holderIdentity: x, renewTime: t}",
			"metadata: {name: a}\nspec: {holderIdentity: y, renewTime: u}", nil},
		"an endpoint is noted": {"endpointslices.discovery.k8s.io", "metadata: {name: a, annotations: {endpoints.kubernetes.io/last-change-trigger-time: t}}",
			"metadata: {name: a, annotations: {endpoints.kubernetes.io/last-change-trigger-time: u}}", nil},
		"it is being deleted": {"namespaces", "metadata: {name: a}", "metadata: {name: a, deletionTimestamp: t}",
			[]string{`~ namespaces a: now metadata.deletionTimestamp = "t"`}},
	} {
		t.Run(name, func(t *testing.T) {
			before, now := Footprint{}, Footprint{}
			before.addObject(row.kind, parse(t, row.before))
			now.addObject(row.kind, parse(t, row.now))
			if d := cmp.Diff(row.want, Diff(before, now)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestObjects_SecretsAreNotShown(t *testing.T) {
	before, now := Footprint{}, Footprint{}
	before.addObject("secrets", parse(t, "metadata: {name: a, namespace: n}\ndata: {key: c2VjcmV0}"))
	now.addObject("secrets", parse(t, "metadata: {name: a, namespace: n}\ndata: {key: b3RoZXI=}"))
	got := Diff(before, now)
	if len(got) != 2 || strings.Contains(strings.Join(got, ""), "c2VjcmV0") {
		t.Errorf("got %q", got)
	}
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}
