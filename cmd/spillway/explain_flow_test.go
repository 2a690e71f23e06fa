package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// stored is an object as an API server stores it: of this namespace and name, with these labels, and with more.
func stored(namespace, name string, labels, more map[string]any) map[string]any {
	o := map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name, "uid": "uid-" + name, "labels": labels}}
	maps.Copy(o, more)
	return o
}

// withPod is a peered pair: pod shop/web-0 of home is on the virtual node and its twin runs in the cloud.
func withPod(t *testing.T) *pair {
	p := newPair(t)
	condition := func(kind string) any { return map[string]any{"type": kind, "status": "True"} }
	p.home.put("/apis/spillway.dev/v1alpha1/peerings/cloud", stored("", "cloud", nil, map[string]any{
		"spec":   map[string]any{"clusterID": "id-cloud", "borrow": map[string]any{}, "api": map[string]any{"server": p.cloud.URL}},
		"status": map[string]any{"observedGeneration": 1, "nodes": []any{map[string]any{"name": "spillway-cloud"}}, "conditions": []any{condition("Authenticated"), condition("NodeReady"), condition("Ready")}}}))
	p.cloud.put("/apis/spillway.dev/v1alpha1/peerings/home", stored("", "home", nil, map[string]any{
		"spec":   map[string]any{"clusterID": "id-home", "share": map[string]any{}},
		"status": map[string]any{"tenant": map[string]any{"namespaces": []any{map[string]any{"name": "shop", "remoteName": "shop-1f2e"}}}}}))
	p.home.put("/apis/coordination.k8s.io/v1/namespaces/spillway-system/leases/spillwayd", stored("spillway-system", "spillwayd", nil, map[string]any{
		"spec": map[string]any{"holderIdentity": "a", "leaseDurationSeconds": 3600, "renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")}}))
	spec := func(node string) map[string]any {
		return map[string]any{"nodeName": node, "volumes": []any{map[string]any{"name": "tls", "secret": map[string]any{"secretName": "tls"}}},
			"containers":  []any{map[string]any{"name": "web", "envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": "settings"}}}}},
			"tolerations": []any{map[string]any{"key": v1alpha1.TaintVirtualNode, "operator": "Exists"}}}
	}
	status := map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
	ours := map[string]any{v1alpha1.LabelOrigin: "id-home"}
	p.home.put("/api/v1/namespaces/shop", stored("", "shop", map[string]any{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}, nil))
	p.home.put("/api/v1/nodes/spillway-cloud", stored("", "spillway-cloud", map[string]any{v1alpha1.LabelPeer: "cloud"},
		map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}}))
	p.home.put("/api/v1/namespaces/shop/pods/web-0", stored("shop", "web-0", nil, map[string]any{"spec": spec("spillway-cloud"), "status": status}))
	p.home.put("/api/v1/namespaces/shop/configmaps/settings", stored("shop", "settings", nil, nil))
	p.home.put("/api/v1/namespaces/shop/secrets/tls", stored("shop", "tls", nil, nil))
	p.home.put("/api/v1/namespaces/shop/events/e1", stored("shop", "e1", nil, map[string]any{"reason": "Scheduled", "message": "bound", "involvedObject": map[string]any{"uid": "uid-web-0"}}))
	p.home.put("/api/v1/namespaces/shop/events/e2", stored("shop", "e2", nil, map[string]any{"reason": "Other", "message": "another pod", "involvedObject": map[string]any{"uid": "uid-other"}}))

	twin := stored("shop-1f2e", "web-0", ours, map[string]any{"spec": spec("worker-2"), "status": status})
	twin["metadata"].(map[string]any)["annotations"] = map[string]any{v1alpha1.AnnotationOriginUID: "uid-web-0"}
	p.cloud.put("/api/v1/namespaces/shop-1f2e/pods/web-0", twin)
	p.cloud.put("/api/v1/namespaces/shop-1f2e/configmaps/settings", stored("shop-1f2e", "settings", ours, nil))
	p.cloud.put("/api/v1/namespaces/shop-1f2e/secrets/tls", stored("shop-1f2e", "tls", nil, nil))
	p.home.written()
	p.cloud.written()
	return p
}

func TestExplain_LooksAtBothClusters(t *testing.T) {
	p := withPod(t)
	var s podStory
	if err := json.Unmarshal([]byte(p.must(t, "explain", "pod/web-0", "-n", "shop", "--remote-context", "cloud", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if !s.OK || s.Verdict != "Pod shop/web-0 runs in the peer cloud, on node worker-2 there." || s.Where.NodeKind != "virtual" || len(s.Peerings) != 1 {
		t.Errorf("story is %+v", s)
	}
	if want := (&twinStory{Context: "cloud", Namespace: "shop-1f2e", Name: "web-0", State: "there", Node: "worker-2", Phase: "Running", Ready: true}); !cmp.Equal(want, s.Twin) {
		t.Error(cmp.Diff(want, s.Twin))
	}
	if want := []need{{kindConfigMap, "settings", false, presenceThere, presenceThere}, {kindSecret, "tls", false, presenceThere, presenceForeign}}; !cmp.Equal(want, s.Needs) {
		t.Error(cmp.Diff(want, s.Needs))
	}
	if len(s.Said) != 1 || s.Said[0].Reason != "Scheduled" {
		t.Errorf("said: %+v, want the pod's own event alone", s.Said)
	}
	checkUnwritten(t, p)
}

// TestExplain_TellsWhatItCan: the provider cannot be looked at, or much may not be read; there is a story all the same.
func TestExplain_TellsWhatItCan(t *testing.T) {
	p := withPod(t)
	for name, row := range map[string]struct {
		args []string
		deny []string
		want []string
	}{
		"provider not named":   {nil, nil, []string{"runs in the peer cloud.", "--remote-context Cloud_2", "here; follows the pod"}},
		"provider dead":        {[]string{"--remote-context", "dead"}, nil, []string{"runs in the peer cloud.", "does not answer"}},
		"not the provider":     {[]string{"--remote-context", "home"}, nil, []string{`is not the cluster that Peering "cloud" stands for`}},
		"unknown context":      {[]string{"--remote-context", "nowhere"}, nil, []string{`no context "nowhere"`}},
		"few rights at home":   {nil, []string{"get nodes", "get events", "get namespaces", "get secrets", "get leases"}, []string{"(it may not be read)", "may not be read; follows"}},
		"no right to Peerings": {nil, []string{"get peerings", "get nodes"}, []string{"of which you may read nothing"}},
		"plural kind":          {[]string{"-o", "yaml"}, nil, []string{"verdict: Pod shop/web-0 runs in the peer cloud."}},
	} {
		t.Run(name, func(t *testing.T) {
			p.home.deny(row.deny...)
			defer p.home.deny()
			out := p.must(t, append([]string{"explain", "pods", "web-0", "-n", "shop"}, row.args...)...)
			for _, want := range row.want {
				if !strings.Contains(out, want) {
					t.Errorf("output lacks %q:\n%s", want, out)
				}
			}
		})
	}
	checkUnwritten(t, p)
}

func TestExplain_BadInput(t *testing.T) {
	p := withPod(t)
	for name, row := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no pod":              {nil, exitUsage, []string{"which pod to explain", "pod/NAME"}},
		"another kind":        {[]string{"deployment/web"}, exitUsage, []string{"knows pods only"}},
		"two pods":            {[]string{"pod/a", "pod/b"}, exitUsage, []string{"takes one pod"}},
		"no name":             {[]string{"pod/"}, exitUsage, []string{`"" cannot be the name of a pod`}},
		"bad namespace":       {[]string{"pod/a", "-n", "A b"}, exitUsage, []string{"cannot be the name of a namespace"}},
		"bad format":          {[]string{"pod/a", "-o", "wide"}, exitUsage, []string{"Use json, yaml."}},
		"no such pod":         {[]string{"pod/db"}, exitFailed, []string{`there is no pod "db" in namespace "default"`, "get pods --all-namespaces"}},
		"elsewhere":           {[]string{"web-0"}, exitFailed, []string{`in namespace "default"`, "There is one of that name elsewhere: -n shop."}},
		"name of its owner":   {[]string{"pod/web", "-n", "shop"}, exitFailed, []string{"Did you mean pod/web-0?"}},
		"cluster unreachable": {[]string{"pod/web-0", "--context", "dead"}, exitFailed, []string{"does not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := p.run(t, append([]string{"explain"}, row.args...)...)
			if code != row.code {
				t.Errorf("exit %d, want %d", code, row.code)
			}
			for _, want := range row.want {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr lacks %q:\n%s", want, errs)
				}
			}
		})
	}
}

// TestLookFor_AsksForMetadataAlone: the content of a Secret does not even travel.
func TestLookFor_AsksForMetadataAlone(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + strings.Join(r.Header.Values("Accept"), " and ")
		answer(w, stored("shop", "tls", nil, nil))
	}))
	defer server.Close()
	c := &cluster{clock: &serverClock{}}
	if err := c.connect(&rest.Config{Host: server.URL}); err != nil {
		t.Fatal(err)
	}
	if got := lookFor(t.Context(), c, "shop", need{Kind: kindSecret, Name: "tls"}, ""); got != presenceThere {
		t.Errorf("the Secret is %s", got)
	}
	if got, want := <-asked, "/api/v1/namespaces/shop/secrets/tls application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"; got != want {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

func TestNeedsOf(t *testing.T) {
	yes := true
	name := func(s string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: s} }
	spec := &corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{name("pull"), name("")},
		InitContainers:   []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("a"), Optional: &yes}}}}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{{Value: "x"}, {ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("s")}}}},
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("a")}}}}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("a"), Optional: &yes}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("o"), Optional: &yes}}}}}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("c")}}},
			{VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name("kube-root-ca.crt")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: name("p")}}}}}},
		},
	}
	var got []string
	for _, n := range needsOf(spec) {
		text := n.Kind + "/" + n.Name
		if n.Optional {
			text += "?"
		}
		got = append(got, text)
	}
	want := []string{"ConfigMap/a", "ConfigMap/c", "Secret/csi", "Secret/o?", "Secret/p", "Secret/pull?", "Secret/s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
