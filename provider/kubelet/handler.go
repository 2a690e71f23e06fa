package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/healthz"
)

// textMetrics is the content type of Prometheus' text format.
const textMetrics = "text/plain; version=0.0.4; charset=utf-8"

// HandlerConfig is what the kubelet API of one virtual node is made of.
type HandlerConfig struct {
	Node Node
	// Auth says who may ask what; see Auth.Node.
	Auth Access
	// Usage says what pods use. Nil: nobody knows.
	Usage Usage
	Log   *zap.Logger
}

// NewHandler serves the kubelet API of a virtual node: to be called over TLS, by a server that asks for client certificates but
// leaves their verification to Auth. Answers that are no success are sentences in plain text.
//
// A stream ends with either of its connections, and with the context of its request. A server that shuts down does not know
// of upgraded connections: it ends them through its BaseContext.
func NewHandler(config HandlerConfig) http.Handler {
	log := config.Log.With(zap.String("node", config.Node.Name()), zap.String("peer", config.Node.Peer()))
	mux := http.NewServeMux()
	s := &streams{node: config.Node, log: log, answer: answerTimeout}
	both := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc("GET "+pattern, h)
		mux.HandleFunc("POST "+pattern, h)
	}
	exec, attach := s.upgraded("exec", execQuery), s.upgraded("attach", attachQuery)
	forward := s.upgraded("portforward", portForwardQuery)
	both("/exec/{namespace}/{pod}/{container}", exec)
	both("/exec/{namespace}/{pod}/{uid}/{container}", exec)
	both("/attach/{namespace}/{pod}/{container}", attach)
	both("/attach/{namespace}/{pod}/{uid}/{container}", attach)
	both("/portForward/{namespace}/{pod}", forward)
	both("/portForward/{namespace}/{pod}/{uid}", forward)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)

	i := inventory{config.Node, config.Usage}
	mux.HandleFunc("GET /pods", i.list(everyPod))
	mux.HandleFunc("GET /runningpods", i.list(runs))
	mux.HandleFunc("GET /runningpods/{$}", i.list(runs))
	both("/stats/summary", i.summary)
	mux.HandleFunc("GET /metrics", i.own)
	mux.HandleFunc("GET /metrics/probes", func(w http.ResponseWriter, _ *http.Request) { writeMetrics(w, nil) })
	mux.HandleFunc("GET /metrics/resource", i.text(Usage.Resource))
	mux.HandleFunc("GET /metrics/cadvisor", i.text(Usage.Cadvisor))

	// That the peer answers is what the Node's Ready condition says; health is that of this process.
	healthz.InstallHandler(mux, healthz.PingHealthz, healthz.NamedCheck("syncloop", func(*http.Request) error { return nil }))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("the kubelet API of a virtual node has no %s", r.URL.Path), http.StatusNotFound)
	})
	return examined(config.Auth, log, mux)
}

// inventory answers what is on a node and what it uses.
type inventory struct {
	node  Node
	usage Usage
}

func everyPod(*corev1.Pod) bool { return true }

func runs(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }

// pods are those for which keep holds. Shared: do not change what their fields point to.
func (i inventory) pods(keep func(*corev1.Pod) bool) []corev1.Pod {
	pods := []corev1.Pod{}
	for _, pod := range i.node.Pods() {
		if keep(pod) {
			pods = append(pods, *pod)
		}
	}
	return pods
}

// list serves a PodList. virtual-kubelet's node/api would make a scheme of its own for each, 100 KiB per node.
func (i inventory) list(keep func(*corev1.Pod) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&corev1.PodList{ // whoever went away needs no answer
			TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: i.pods(keep),
		})
	}
}

// own is /metrics: the families of a kubelet that dashboards join others with.
func (i inventory) own(w http.ResponseWriter, _ *http.Request) {
	writeMetrics(w, fmt.Appendf(nil, `# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.
# TYPE kubelet_node_name gauge
kubelet_node_name{node=%q} 1
# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox
# TYPE kubelet_running_pods gauge
kubelet_running_pods %d
`, i.node.Name(), len(i.pods(runs))))
}

// text serves one of the two expositions of Usage.
func (i inventory) text(read func(Usage, context.Context, Node) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if i.usage == nil {
			i.unknown(w)
			return
		}
		body, err := read(i.usage, r.Context(), i.node)
		if err != nil {
			answer(w, err)
			return
		}
		writeMetrics(w, body)
	}
}

func (i inventory) summary(w http.ResponseWriter, r *http.Request) {
	if i.usage == nil {
		i.unknown(w)
		return
	}
	summary, err := i.usage.Summary(r.Context(), i.node)
	if err != nil {
		answer(w, err)
		return
	}
	body, err := json.Marshal(summary)
	if err != nil {
		answer(w, fmt.Errorf("write the summary of node %s: %w", i.node.Name(), err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // whoever went away needs no answer
}

func (i inventory) unknown(w http.ResponseWriter) {
	answer(w, refusal{http.StatusServiceUnavailable, fmt.Sprintf("peer %s tells not what pods use", i.node.Peer())})
}

func writeMetrics(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", textMetrics)
	_, _ = w.Write(body) // whoever went away needs no answer
}
