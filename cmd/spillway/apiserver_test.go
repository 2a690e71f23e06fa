package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"
)

// testToken is the credential that apiServer takes.
const testToken = "let-me-in"

// apiServer is a small API server in memory: objects of any kind, list, watch, patch, finalizers. It knows no schema.
type apiServer struct {
	*httptest.Server
	denied []string // "verb resource" the user may not do
	noCRDs bool
	budget func(pod string, evictions int) bool // whether a pod may not be evicted now, after so many have been; nil: all may

	mu      sync.Mutex
	objects map[string]map[string]any // by path without /status
	version int
	log     []apiEvent
	changed chan struct{} // closed at the next event
	writes  []string      // "METHOD path" of everything that changed something
	evicted int
}

type apiEvent struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
	path   string
}

// newAPIServer serves a cluster with this id until the test ends.
func newAPIServer(t *testing.T, id string) *apiServer {
	s := &apiServer{objects: map[string]map[string]any{}, changed: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	s.put("/api/v1/namespaces/kube-system", map[string]any{"metadata": map[string]any{"name": "kube-system", "uid": id}})
	return s
}

// deny takes rights away: "verb resource".
func (s *apiServer) deny(rights ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = rights
}

func (s *apiServer) denies(right string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.denied, right)
}

// put stores an object as it is.
func (s *apiServer) put(path string, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(path, object)
}

// drop takes an object away, as its deletion by others does.
func (s *apiServer) drop(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(path, s.objects[path])
}

// written returns the writes so far and forgets them.
func (s *apiServer) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = nil
	return writes
}

func (s *apiServer) paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
		return
	}
	path, isStatus := strings.CutSuffix(r.URL.Path, "/status")
	collection, named := split(path)
	resource := collection[strings.LastIndex(collection, "/")+1:]
	switch {
	case r.URL.Path == "/apis/spillway.dev/v1alpha1" && !s.noCRDs:
		answer(w, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "peerings"}}})
	case r.URL.Path == "/apis/spillway.dev/v1alpha1", r.URL.Path == "/apis/about.k8s.io":
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
	case strings.HasSuffix(r.URL.Path, "/eviction"):
		s.evict(w, strings.TrimSuffix(r.URL.Path, "/eviction"))
	case resource == "selfsubjectaccessreviews":
		s.review(w, r)
	case s.denies(strings.ToLower(r.Method) + " " + resource):
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, "user may not "+strings.ToLower(r.Method)+" "+resource)
	case r.Method == http.MethodGet && !named && r.URL.Query().Has("watch"):
		s.watch(w, r, collection, resource)
	case r.Method == http.MethodGet && !named:
		s.list(w, r, collection, resource)
	case r.Method == http.MethodGet:
		s.get(w, path)
	case r.Method == http.MethodDelete && !named:
		answer(w, map[string]any{}) // nobody makes such objects here
	default:
		s.write(w, r, path, isStatus)
	}
}

// split separates a path into that of the collection and whether an object is named.
func split(path string) (collection string, named bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	rest := parts[2:] // api/v1/…
	if parts[0] == "apis" && len(parts) > 3 {
		rest = parts[3:]
	}
	if len(rest) > 2 && rest[0] == "namespaces" {
		rest = rest[2:]
	}
	if len(rest) > 1 {
		return path[:strings.LastIndex(path, "/")], true
	}
	return path, false
}

func (s *apiServer) review(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	asked := body["spec"].(map[string]any)["resourceAttributes"].(map[string]any)
	denied := s.denies(fmt.Sprintf("%s %s", asked["verb"], asked["resource"]))
	answer(w, map[string]any{"status": map[string]any{"allowed": !denied}})
}

// readBody reads what was sent, as JSON or protobuf. Empty for nothing.
func readBody(r *http.Request) (map[string]any, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte("k8s\x00")) {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			return nil, err
		}
		if data, err = json.Marshal(object); err != nil {
			return nil, err
		}
	}
	var body map[string]any
	return body, json.Unmarshal(data, &body)
}

func (s *apiServer) get(w http.ResponseWriter, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if object, ok := s.objects[path]; ok {
		answer(w, object)
		return
	}
	refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, path+" not found")
}

// inCollection says whether path is in collection, or in any namespace's collection of that resource when collection
// is cluster-wide.
func inCollection(path, collection, resource string) bool {
	parent := path[:strings.LastIndex(path, "/")]
	prefix := strings.TrimSuffix(collection, resource)
	return parent == collection || strings.HasPrefix(parent, prefix+"namespaces/") && strings.HasSuffix(parent, "/"+resource)
}

func selected(r *http.Request, object map[string]any) bool {
	meta, _ := object["metadata"].(map[string]any)
	set := labels.Set{}
	have, _ := meta["labels"].(map[string]any)
	for key, value := range have {
		set[key] = fmt.Sprint(value)
	}
	node := ""
	if spec, ok := object["spec"].(map[string]any); ok {
		node, _ = spec["nodeName"].(string)
	}
	involved, _ := object["involvedObject"].(map[string]any)
	byLabel, _ := labels.Parse(r.URL.Query().Get("labelSelector"))
	byField, _ := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	return byLabel.Matches(set) && byField.Matches(fields.Set{"metadata.name": fmt.Sprint(meta["name"]), "spec.nodeName": node,
		"involvedObject.uid": fmt.Sprint(involved["uid"])})
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request, collection, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		if inCollection(path, collection, resource) && selected(r, s.objects[path]) {
			items = append(items, s.objects[path])
		}
	}
	answer(w, map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}, "items": items})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, collection, resource string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	var next int
	_, _ = fmt.Sscan(r.URL.Query().Get("resourceVersion"), &next)
	for {
		s.mu.Lock()
		news, changed := slices.Clone(s.log[next:]), s.changed
		next = len(s.log)
		s.mu.Unlock()
		for _, event := range news {
			if inCollection(event.path, collection, resource) && selected(r, event.Object) {
				_ = json.NewEncoder(w).Encode(event)
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// evict deletes a pod if its budget allows it.
func (s *apiServer) evict(w http.ResponseWriter, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists := s.objects[path]
	switch {
	case !exists:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, path+" not found")
	case s.budget != nil && s.budget(path[strings.LastIndex(path, "/")+1:], s.evicted):
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.")
	default:
		s.evicted++
		s.writes = append(s.writes, "EVICT "+path)
		s.remove(path, old)
		w.WriteHeader(http.StatusCreated)
	}
}

// write creates, updates, patches or deletes the object at path.
func (s *apiServer) write(w http.ResponseWriter, r *http.Request, path string, isStatus bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := readBody(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	if r.Method == http.MethodPost {
		path += "/" + body["metadata"].(map[string]any)["name"].(string)
	}
	old, exists := s.objects[path]
	if !exists && (r.Method == http.MethodDelete || r.Method == http.MethodPut || r.Header.Get("Content-Type") == "application/merge-patch+json") {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, path+" not found")
		return
	}
	if exists && r.Method == http.MethodPost {
		refuse(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, path+" already exists")
		return
	}
	s.writes = append(s.writes, r.Method+" "+r.URL.Path)
	if r.Method == http.MethodDelete {
		answer(w, s.remove(path, old))
		return
	}
	object := copyObject(old)
	switch {
	case isStatus:
		object["status"] = body["status"]
	case r.Method == http.MethodPatch:
		mergeInto(object, body)
	default:
		object = body
	}
	answer(w, s.store(path, object))
}

// remove deletes the object at path, or marks it when finalizers hold it.
func (s *apiServer) remove(path string, old map[string]any) map[string]any {
	object := copyObject(old)
	meta := object["metadata"].(map[string]any)
	if held, _ := meta["finalizers"].([]any); len(held) == 0 {
		delete(s.objects, path)
		s.record("DELETED", path, object)
		return object
	}
	meta["deletionTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	return s.store(path, object)
}

// store keeps object, numbers it and tells the watches.
func (s *apiServer) store(path string, object map[string]any) map[string]any {
	object = copyObject(object)
	old, exists := s.objects[path]
	meta := object["metadata"].(map[string]any)
	if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("uid-%d", s.version+1)
	}
	generation, _ := meta["generation"].(float64)
	if !exists || fmt.Sprint(old["spec"]) != fmt.Sprint(object["spec"]) {
		meta["generation"] = generation + 1
	}
	if held, _ := meta["finalizers"].([]any); exists && len(held) == 0 && meta["deletionTimestamp"] != nil {
		delete(s.objects, path)
		s.record("DELETED", path, object)
		return object
	}
	s.objects[path] = object
	kind := "ADDED"
	if exists {
		kind = "MODIFIED"
	}
	s.record(kind, path, object)
	return object
}

func (s *apiServer) record(kind, path string, object map[string]any) {
	s.version++
	object["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(s.version)
	s.log = append(s.log, apiEvent{kind, object, path})
	close(s.changed)
	s.changed = make(chan struct{})
}

// mergeInto applies an RFC 7386 patch; that is near enough to server-side apply for objects with one writer per field.
func mergeInto(object, patch map[string]any) {
	for key, value := range patch {
		inner, isMap := value.(map[string]any)
		have, hasMap := object[key].(map[string]any)
		switch {
		case value == nil:
			delete(object, key)
		case isMap && hasMap:
			mergeInto(have, inner)
		default:
			object[key] = value
		}
	}
}

func copyObject(object map[string]any) map[string]any {
	data, _ := json.Marshal(object)
	fresh := map[string]any{}
	_ = json.Unmarshal(data, &fresh)
	if fresh == nil {
		fresh = map[string]any{}
	}
	return fresh
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}
