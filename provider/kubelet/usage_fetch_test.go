package kubelet

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const onePod = "# TYPE pod_cpu_usage_seconds_total counter\npod_cpu_usage_seconds_total{namespace=\"home-shop\",pod=\"p\"} 1 1000\n"

func onePodNode(name string, remote *rest.Config) *usageNode {
	return &usageNode{name: name, peer: "west", remote: remote, pods: []*corev1.Pod{usagePod("shop", "p", "aaaaaaaa-0000-4000-8000-000000000001")}}
}

// TestUsage_RepeatsTheToken goes through a real server, for it is the order of client-go's wrappers that counts.
func TestUsage_RepeatsTheToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "of-a-source"})
	for name, row := range map[string]struct {
		config rest.Config
		want   string
	}{
		"a token source": {rest.Config{WrapTransport: transport.TokenSourceWrapTransport(source)}, "Bearer of-a-source"},
		"a resettable source": {rest.Config{WrapTransport: transport.ResettableTokenSourceWrapTransport(
			transport.NewCachedTokenSource(source))}, "Bearer of-a-source"},
		"a token":      {rest.Config{BearerToken: "plain"}, "Bearer plain"},
		"a token file": {rest.Config{BearerTokenFile: file}, "Bearer of-a-file"},
		"a password":   {rest.Config{Username: "u", Password: "p"}, ""},
		"nothing":      {rest.Config{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var seen http.Header
			var path string
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen, path = r.Header.Clone(), r.URL.Path
				_, _ = io.WriteString(w, onePod)
			}))
			defer server.Close()
			config := row.config
			config.Host, config.CAData, config.DisableCompression = server.URL, certificateOf(server), true
			node := onePodNode("west", &config)
			u := NewUsage(UsageConfig{}).(*usage)
			defer func() { u.peers["west"].close() }()
			if _, err := u.Resource(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			if got := seen.Get(headerToken); got != row.want {
				t.Errorf("%s: %q, want %q", headerToken, got, row.want)
			}
			if got := seen.Get("Authorization"); row.want != "" && got != row.want {
				t.Errorf("Authorization: %q, want %q", got, row.want)
			}
			if want := "/api/v1/namespaces/spillway-system/services/https:spillway-usage:usage/proxy/v1/resource"; path != want {
				t.Errorf("%s, want %s", path, want)
			}
			if !strings.Contains(seen.Get("Accept-Encoding"), "gzip") {
				t.Error("gzip is not asked for")
			}
		})
	}
}

func certificateOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// TestUsage_TokenIsNotRedirected: a redirect would carry it elsewhere.
func TestUsage_TokenIsNotRedirected(t *testing.T) {
	var other atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { other.Add(1) }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer server.Close()
	_, err := NewUsage(UsageConfig{}).Resource(t.Context(), onePodNode("west", &rest.Config{Host: server.URL, BearerToken: "x"}))
	if err == nil || other.Load() != 0 {
		t.Errorf("%v, %d requests elsewhere", err, other.Load())
	}
}

func TestUsage_Gzip(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set(headerScraped, "1234")
		w.Header().Set(headerFailed, "2")
		zipped := gzip.NewWriter(w)
		_, _ = io.WriteString(zipped, onePod)
		_ = zipped.Close()
	}))
	defer server.Close()
	node := onePodNode("west", &rest.Config{Host: server.URL})
	u := NewUsage(UsageConfig{})
	got, err := u.Resource(t.Context(), node)
	if err != nil || !strings.Contains(string(got), `{namespace="shop",pod="p"} 1 1000`) {
		t.Errorf("%v\n%s", err, got)
	}
	if !strings.HasSuffix(string(got), "resource_scrape_error 1\n") {
		t.Errorf("two machines are missing, and nobody is told:\n%s", got)
	}
	node = &usageNode{name: "empty", peer: "west", remote: node.remote}
	if got, err = u.Resource(t.Context(), node); err != nil || !strings.Contains(string(got), "node_cpu_usage_seconds_total 0 1234\n") {
		t.Errorf("an empty node is of the time of the scrape: %v\n%s", err, got)
	}
}

// TestUsage_OneRequestForAllReaders: two hundred readers of ten nodes at a time.
func TestUsage_OneRequestForAllReaders(t *testing.T) {
	var requests sync.Map
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count, _ := requests.LoadOrStore(filepath.Base(r.URL.Path), new(atomic.Int32))
		count.(*atomic.Int32).Add(1)
		<-release
		if strings.HasSuffix(r.URL.Path, "summary") {
			_, _ = io.WriteString(w, `{"pods":[]}`)
			return
		}
		_, _ = io.WriteString(w, onePod)
	}))
	defer server.Close()
	u := NewUsage(UsageConfig{Now: fixedClock})
	remote := &rest.Config{Host: server.URL}
	var readers sync.WaitGroup
	for i := range 200 {
		node := onePodNode(fmt.Sprint("west-", i%10), remote)
		readers.Go(func() {
			_, resource := u.Resource(t.Context(), node)
			_, cadvisor := u.Cadvisor(t.Context(), node)
			_, summary := u.Summary(t.Context(), node)
			if err := errors.Join(resource, cadvisor, summary); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	readers.Wait()
	for _, kind := range []string{"resource", "cadvisor", "summary"} {
		if count, ok := requests.Load(kind); !ok || count.(*atomic.Int32).Load() != 1 {
			t.Errorf("%s was not asked for once", kind)
		}
	}
}

// CloseIdleConnections is what is called of a transport that is no longer used.
func (t trip) CloseIdleConnections() {}

// counting answers with serve and counts requests.
func counting(requests *atomic.Int32, serve func(*http.Request) (*http.Response, error)) *rest.Config {
	return &rest.Config{Host: "http://west.example", Transport: trip(func(r *http.Request) (*http.Response, error) {
		requests.Add(1)
		return serve(r)
	})}
}

func TestUsage_AsksOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		node := onePodNode("west", counting(&requests, func(r *http.Request) (*http.Response, error) {
			return usageResponse(r, http.StatusOK, onePod), nil
		}))
		u := NewUsage(UsageConfig{}).(*usage)
		ask := func(want int32) {
			t.Helper()
			if _, err := u.Resource(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			if got := requests.Load(); got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
		}
		ask(1)
		waitFor(9 * time.Second)
		ask(1)
		waitFor(time.Second)
		ask(2)
		waitFor(time.Hour) // nobody reads
		if got := requests.Load(); got != 2 {
			t.Errorf("%d requests while nobody read", got-2)
		}
		synctest.Wait()
		peer := u.peers["west"]
		peer.mu.Lock()
		kept := len(peer.answers)
		peer.mu.Unlock()
		if kept != 0 {
			t.Errorf("%d answers kept while nobody read", kept)
		}
		ask(3)
		node.remote = rest.CopyConfig(node.remote) // another way to the peer
		ask(4)
		waitFor(time.Hour)
	})
}

// TestUsage_CountsThePeersInterval: what the peer told after seven seconds is good for three more.
func TestUsage_CountsThePeersInterval(t *testing.T) {
	for name, row := range map[string]struct{ age, good time.Duration }{
		"just scraped": {0, 10 * time.Second}, "scraped before": {7 * time.Second, 3 * time.Second},
		"scraped long before": {time.Hour, askAtMost}, "a clock that goes back": {-time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				u := NewUsage(UsageConfig{})
				node := onePodNode("west", counting(&requests, func(r *http.Request) (*http.Response, error) {
					there := time.Now().Add(-5 * time.Hour) // by the peer's clock
					answer := usageResponse(r, http.StatusOK, onePod)
					answer.Header.Set("Date", there.UTC().Format(http.TimeFormat))
					answer.Header.Set(headerScraped, fmt.Sprint(there.Add(-row.age).UnixMilli()))
					return answer, nil
				}))
				ask := func(want int32) {
					t.Helper()
					if _, err := u.Resource(t.Context(), node); err != nil || requests.Load() != want {
						t.Errorf("%v, %d requests, want %d", err, requests.Load(), want)
					}
				}
				ask(1)
				waitFor(row.good - time.Nanosecond)
				ask(1)
				waitFor(time.Nanosecond)
				ask(2)
				waitFor(time.Minute)
			})
		})
	}
}

// waitFor waits in a bubble's time.
func waitFor(d time.Duration) { <-time.After(d) }

func TestUsage_Errors(t *testing.T) {
	status := func(code int, message string) string {
		return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d}`, message, code)
	}
	const older = "peer west tells no usage: its Spillway is older or runs without --usage-address "
	for name, row := range map[string]struct {
		code  int
		body  string
		want  string
		again time.Duration // when the peer is asked again
	}{
		"no service": {404, status(404, `services "https:spillway-usage:usage" not found`),
			older + `(services "https:spillway-usage:usage" not found)`, 10 * time.Second},
		"no right": {403, status(403, `services is forbidden`), older + `(services is forbidden)`, 10 * time.Second},
		"no endpoints": {503, status(503, `no endpoints available for service "https:spillway-usage:usage"`),
			older + `(no endpoints available for service "https:spillway-usage:usage")`, 10 * time.Second},
		"token refused": {401, status(401, "Unauthorized"), "ask peer west for resource: its API server answers 401 Unauthorized: Unauthorized", 2 * time.Second},
		"the service itself": {503, "none of the 2 kubelets with pods of yours answered\n",
			"ask peer west for resource: its usage service answers 503 Service Unavailable: none of the 2 kubelets with pods of yours answered", 2 * time.Second},
		"a line without end": {200, strings.Repeat("x", maxLine+1), "ask peer west for resource: bufio.Scanner: token too long", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				node := onePodNode("west", counting(&requests, func(r *http.Request) (*http.Response, error) {
					return usageResponse(r, row.code, row.body), nil
				}))
				u := NewUsage(UsageConfig{})
				ask := func(want int32) {
					t.Helper()
					_, err := u.Resource(t.Context(), node)
					if diff := cmp.Diff(row.want, fmt.Sprint(err)); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
					if got := requests.Load(); got != want {
						t.Errorf("%d requests, want %d", got, want)
					}
				}
				ask(1)
				waitFor(row.again - time.Nanosecond)
				ask(1)
				waitFor(time.Nanosecond)
				ask(2)
				waitFor(time.Minute)
			})
		})
	}
}

func TestUsage_Lost(t *testing.T) {
	var requests atomic.Int32
	node := onePodNode("west", counting(&requests, func(r *http.Request) (*http.Response, error) { return usageResponse(r, 200, onePod), nil }))
	u := NewUsage(UsageConfig{})
	node.lost = errors.New("no answer since 12:00")
	if _, err := u.Summary(t.Context(), node); fmt.Sprint(err) != "peer west does not answer: no answer since 12:00" {
		t.Error(err)
	}
	node.lost, node.remote = nil, nil
	if _, err := u.Cadvisor(t.Context(), node); fmt.Sprint(err) != "peer west is not connected yet" {
		t.Error(err)
	}
	if requests.Load() != 0 {
		t.Error("a peer was asked that does not answer")
	}
}

// TestUsage_SlowPeer: whoever asks has an answer within 5 s, whatever it is that takes long.
func TestUsage_SlowPeer(t *testing.T) {
	stuck := func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }
	for name, row := range map[string]struct {
		serve func(*http.Request) (*http.Response, error)
		after time.Duration
		want  string
	}{
		"no connection": {stuck, beginWithin, "ask peer west for resource: no answer in time"},
		"an answer without end": {func(r *http.Request) (*http.Response, error) {
			answer := usageResponse(r, http.StatusOK, "")
			answer.Body = stuckBody{r.Context()}
			return answer, nil
		}, answerWithin, "ask peer west for resource: no answer in time"},
		"a token that does not come": {func(*http.Request) (*http.Response, error) { waitFor(20 * time.Second); return nil, errors.New("late") },
			answerWithin, "ask peer west for resource: no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				u := NewUsage(UsageConfig{})
				node := onePodNode("west", counting(&requests, row.serve))
				start := time.Now()
				_, err := u.Resource(t.Context(), node)
				if diff := cmp.Diff(row.want, fmt.Sprint(err)); diff != "" || time.Since(start) != row.after {
					t.Errorf("after %s, want %s; -want +got:\n%s", time.Since(start), row.after, diff)
				}
				waitFor(time.Minute) // and then nothing is left: a bubble does not end before its goroutines
			})
		})
	}
}

type stuckBody struct{ ctx context.Context }

func (b stuckBody) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }
func (b stuckBody) Close() error             { return nil }

// TestUsage_ReaderLeaves: others still have their answer.
func TestUsage_ReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		u := NewUsage(UsageConfig{})
		node := onePodNode("west", counting(&requests, func(r *http.Request) (*http.Response, error) {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(2 * time.Second):
				return usageResponse(r, http.StatusOK, onePod), nil
			}
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := u.Resource(ctx, node); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := u.Resource(t.Context(), node); err != nil || requests.Load() != 1 {
			t.Errorf("%v after %d requests", err, requests.Load())
		}
		waitFor(time.Minute)
	})
}

func TestBounded(t *testing.T) {
	text, err := io.ReadAll(&bounded{from: strings.NewReader("12345"), left: 4})
	if string(text) != "1234" || !errors.Is(err, errLong) {
		t.Errorf("%q, %v", text, err)
	}
}

// TestUsage_CutOff: half an answer is none.
func TestUsage_CutOff(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, onePod)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	server.TLS = &tls.Config{}
	server.StartTLS()
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	config.CAData = certificateOf(server)
	if text, err := NewUsage(UsageConfig{}).Resource(t.Context(), onePodNode("west", config)); err == nil {
		t.Errorf("taken for a whole answer:\n%s", text)
	}
}
