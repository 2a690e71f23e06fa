package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// fakeUsage tells its name, or err.
type fakeUsage struct{ err error }

func (u fakeUsage) Resource(_ context.Context, n Node) ([]byte, error) {
	return []byte("resource of " + n.Name() + "\n"), u.err
}
func (u fakeUsage) Cadvisor(_ context.Context, n Node) ([]byte, error) {
	return []byte("cadvisor of " + n.Name() + "\n"), u.err
}
func (u fakeUsage) Summary(_ context.Context, n Node) (*statsv1alpha1.Summary, error) {
	return &statsv1alpha1.Summary{Node: statsv1alpha1.NodeStats{NodeName: n.Name()}}, u.err
}

// serve asks the handler of a node with a running pod and one that waits.
func serve(usage Usage, method, path string) *httptest.ResponseRecorder {
	waiting := webPod()
	waiting.Name, waiting.Status.Phase = "waiting", corev1.PodPending
	node := &fakeNode{pods: []*corev1.Pod{webPod(), waiting}}
	w := httptest.NewRecorder()
	NewHandler(HandlerConfig{Node: node, Auth: everyone{}, Usage: usage, Log: zap.NewNop()}).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestHandler_Answers(t *testing.T) {
	own := `# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.
# TYPE kubelet_node_name gauge
kubelet_node_name{node="spillway-west"} 1
# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox
# TYPE kubelet_running_pods gauge
kubelet_running_pods 1
`
	for path, row := range map[string]struct {
		usage Usage
		code  int
		kind  string
		body  string
	}{
		"/healthz":           {nil, 200, "text/plain; charset=utf-8", "ok"},
		"/healthz/ping":      {nil, 200, "text/plain; charset=utf-8", "ok"},
		"/healthz/syncloop":  {nil, 200, "text/plain; charset=utf-8", "ok"},
		"/metrics":           {nil, 200, textMetrics, own},
		"/metrics/probes":    {nil, 200, textMetrics, ""},
		"/metrics/resource":  {fakeUsage{}, 200, textMetrics, "resource of spillway-west\n"},
		"/metrics/cadvisor":  {fakeUsage{}, 200, textMetrics, "cadvisor of spillway-west\n"},
		"/metrics/cadvisor?": {fakeUsage{errors.New("peer west is lost")}, 503, "text/plain; charset=utf-8", "peer west is lost\n"},
		"/metrics/resource?": {nil, 503, "text/plain; charset=utf-8", "peer west tells not what pods use\n"},
		"/stats/summary?":    {fakeUsage{errors.New("peer west is lost")}, 503, "text/plain; charset=utf-8", "peer west is lost\n"},
		"/configz":           {nil, 404, "text/plain; charset=utf-8", "the kubelet API of a virtual node has no /configz\n"},
	} {
		t.Run(path, func(t *testing.T) {
			w := serve(row.usage, http.MethodGet, path)
			if w.Code != row.code || w.Header().Get("Content-Type") != row.kind {
				t.Errorf("%d %s, want %d %s", w.Code, w.Header().Get("Content-Type"), row.code, row.kind)
			}
			if diff := cmp.Diff(row.body, w.Body.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHandler_Pods(t *testing.T) {
	for path, want := range map[string]string{"/pods": "web waiting", "/runningpods": "web", "/runningpods/": "web"} {
		w := serve(nil, http.MethodGet, path)
		var list corev1.PodList
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list.Kind != "PodList" || list.APIVersion != "v1" {
			t.Errorf("%s: %v, kind %s of %s", path, err, list.Kind, list.APIVersion)
		}
		var names []string
		for _, pod := range list.Items {
			names = append(names, pod.Name)
		}
		if got := strings.Join(names, " "); got != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s of type %s, want %s", path, got, w.Header().Get("Content-Type"), want)
		}
	}
}

func TestHandler_Summary(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w := serve(fakeUsage{}, method, "/stats/summary")
		var summary statsv1alpha1.Summary
		if err := json.Unmarshal(w.Body.Bytes(), &summary); err != nil || summary.Node.NodeName != "spillway-west" {
			t.Errorf("%v, %s", err, w.Body.String())
		}
	}
}
