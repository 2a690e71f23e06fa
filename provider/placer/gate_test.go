package placer

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

func migGates(t *testing.T, objects ...*batchv1.CronJob) *gates {
	client := fake.NewClientset()
	for _, o := range objects {
		if err := client.Tracker().Add(o); err != nil {
			t.Fatal(err)
		}
	}
	return newGates(Config{Client: client, Clock: clock.RealClock{}})
}

// gating is a Migration whose pods soak from now on.
func gating(gate v1alpha1.MigrationGate) *v1alpha1.Migration {
	now := metav1.Now()
	return &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "go", UID: "m"}, Spec: v1alpha1.MigrationSpec{Gate: gate},
		Status: v1alpha1.MigrationStatus{Phase: v1alpha1.MigrationGating, Step: 1, ReadyTime: &now}}
}

// answer is what a gate says in the end.
func answer(t *testing.T, g *gates, mg *v1alpha1.Migration) placement.GateView {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, restarted := g.view(mg); !restarted {
		t.Error("a gate that nobody has asked does not say so")
	}
	g.follow(ctx, mg)
	g.follow(ctx, mg) // once only
	g.wg.Wait()
	v, restarted := g.view(mg)
	if restarted {
		t.Error("a gate that was asked says that it was not")
	}
	return v
}

func expectGate(t *testing.T, v placement.GateView, state placement.GateState, why string) {
	t.Helper()
	if v.State != state || !strings.Contains(v.Why, why) {
		t.Errorf("gate says %q: %q, want %q with %q", v.State, v.Why, state, why)
	}
}

func TestGate_HTTP(t *testing.T) {
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch nth := n.Add(1); {
		case r.URL.Path == "/broken" && nth%2 == 0:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/missing":
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/slow" && nth%5 == 0:
			select {
			case <-time.After(300 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	half := int32(60)
	for name, row := range map[string]struct {
		gate  v1alpha1.HTTPGate
		state placement.GateState
		why   string
	}{
		"all good":                  {v1alpha1.HTTPGate{URL: server.URL}, placement.GateHolds, "its pods were Ready for 300ms; 0 of 10 requests failed, p99 was"},
		"not found is an answer":    {v1alpha1.HTTPGate{URL: server.URL + "/missing"}, placement.GateHolds, "0 of 10 requests failed"},
		"every other fails":         {v1alpha1.HTTPGate{URL: server.URL + "/broken"}, placement.GateFails, "requests failed, 1% may"},
		"every other fails and may": {v1alpha1.HTTPGate{URL: server.URL + "/broken", MaxErrorPercent: &half}, placement.GateHolds, "5 of 10 requests failed"},
		"slow":                      {v1alpha1.HTTPGate{URL: server.URL + "/slow", MaxP99: &metav1.Duration{Duration: 100 * time.Millisecond}}, placement.GateFails, "100ms may be"},
		"nobody answers":            {v1alpha1.HTTPGate{URL: gone.URL}, placement.GateFails, "requests failed, 1% may"},
	} {
		t.Run(name, func(t *testing.T) {
			n.Store(0)
			mg := gating(v1alpha1.MigrationGate{Soak: &metav1.Duration{Duration: 300 * time.Millisecond}, HTTP: &row.gate})
			expectGate(t, answer(t, migGates(t), mg), row.state, row.why)
		})
	}
}

func TestGate_Reach(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	mg := gating(v1alpha1.MigrationGate{HTTP: &v1alpha1.HTTPGate{URL: gone.URL}, Prometheus: &v1alpha1.PrometheusGate{URL: bad.URL, Query: "up"}})
	have := strings.Join(migGates(t).reach(t.Context(), mg), "\n")
	for _, want := range []string{"the gate's url cannot be reached from Spillway", "answer with status 404 is not of a Prometheus API"} {
		if !strings.Contains(have, want) {
			t.Errorf("%q is not said: %s", want, have)
		}
	}
	mg.Spec.Gate.HTTP.URL, mg.Spec.Gate.Prometheus = bad.URL, nil
	if have := migGates(t).reach(t.Context(), mg); have != nil {
		t.Errorf("a server that answers 404 was reached, and yet: %s", have)
	}
}

func TestGate_Percentile(t *testing.T) {
	var took []time.Duration
	for i := range 200 {
		took = append(took, time.Duration(200-i)*time.Millisecond)
	}
	if have := percentile99(took); have != 198*time.Millisecond {
		t.Errorf("p99 is %s", have)
	}
	if have := percentile99(took[:1]); have != 200*time.Millisecond {
		t.Errorf("p99 of one is %s", have)
	}
}

func TestGate_Prometheus(t *testing.T) {
	vector := `{"status":"success","data":{"resultType":"vector","result":[%s]}}`
	sample := `{"metric":{"a":"b"},"value":[1435781451.781,"%s"]}`
	one := func(v string) string { return fmt.Sprintf(vector, fmt.Sprintf(sample, v)) }
	for name, row := range map[string]struct {
		answer string
		state  placement.GateState
		why    string
	}{
		"within":           {one("0.5"), placement.GateHolds, "the query gave 0.5"},
		"too much":         {one("1.5"), placement.GateFails, "the query gave 1.5, more than 1"},
		"too little":       {one("-2"), placement.GateFails, "the query gave -2, less than 0"},
		"no number at all": {one("NaN"), placement.GateFails, "the query gave NaN"},
		"a scalar":         {`{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"1"]}}`, placement.GateHolds, "gave 1"},
		"nothing":          {fmt.Sprintf(vector, ""), placement.GateFails, "has to give one number: it gave 0"},
		"two":              {fmt.Sprintf(vector, fmt.Sprintf(sample, "1")+","+fmt.Sprintf(sample, "1")), placement.GateFails, "it gave 2"},
		"a matrix":         {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, placement.GateFails, "it gave a matrix"},
		"an error":         {`{"status":"error","errorType":"bad_data","error":"parse error"}`, placement.GateFails, "parse error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/prom/api/v1/query" || r.URL.Query().Get("query") != `sum(rate(a{b="c"}[1m]))` {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				_, _ = w.Write([]byte(row.answer))
			}))
			defer server.Close()
			mg := gating(v1alpha1.MigrationGate{Soak: &metav1.Duration{}, Prometheus: &v1alpha1.PrometheusGate{
				URL: server.URL + "/prom/", Query: `sum(rate(a{b="c"}[1m]))`, Min: "0", Max: "1"}})
			expectGate(t, answer(t, migGates(t), mg), row.state, row.why)
		})
	}
}

func TestGate_Job(t *testing.T) {
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "smoke"}, Spec: batchv1.CronJobSpec{
		JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "smoke"}}}}}
	for name, row := range map[string]struct {
		cron  *batchv1.CronJob
		ends  batchv1.JobConditionType
		state placement.GateState
		why   string
	}{
		"succeeds":   {cron, batchv1.JobComplete, placement.GateHolds, "has succeeded"},
		"fails":      {cron, batchv1.JobFailed, placement.GateFails, "has failed: no answer"},
		"is missing": {&batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "x"}}, "", placement.GateFails, "there is no CronJob smoke"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := migGates(t, row.cron)
			mg := gating(v1alpha1.MigrationGate{Soak: &metav1.Duration{}, Job: &v1alpha1.JobGate{FromCronJob: "smoke"}})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				endJob(t, g, gateJobName(mg), row.ends)
			}()
			expectGate(t, answer(t, g, mg), row.state, row.why)
			<-ended
		})
	}
}

// endJob waits for a Job, looks at it, and ends it.
func endJob(t *testing.T, g *gates, name string, how batchv1.JobConditionType) {
	jobs := g.client.BatchV1().Jobs("shop")
	for how != "" && t.Context().Err() == nil {
		job, err := jobs.Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			<-time.After(10 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		if owner := metav1.GetControllerOf(job); owner == nil || owner.UID != "m" || owner.Kind != "Migration" || job.Labels["app"] != "smoke" {
			t.Errorf("the Job is %v", job.ObjectMeta)
		}
		if placement.RunOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: name, Controller: new(true)}}}}, "go-gate-1") {
			t.Error("the Job counts as a run of a CronJob")
		}
		job.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue, Message: "no answer"}}
		if _, err := jobs.UpdateStatus(t.Context(), job, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
		return
	}
}

// TestGate_NewSoakTime: another soak time has a gate of its own, and the end of all ends it.
func TestGate_NewSoakTime(t *testing.T) {
	g := migGates(t)
	mg := gating(v1alpha1.MigrationGate{Soak: &metav1.Duration{Duration: time.Hour}})
	g.follow(t.Context(), mg)
	mg = mg.DeepCopy()
	later := metav1.NewTime(mg.Status.ReadyTime.Add(time.Minute))
	mg.Status.ReadyTime = &later
	if _, restarted := g.view(mg); !restarted {
		t.Error("the word of another soak time counts")
	}
	g.follow(t.Context(), mg)
	if v, restarted := g.view(mg); restarted || v.State != placement.GateWaits {
		t.Errorf("gate says %v", v)
	}
	mg = mg.DeepCopy()
	mg.Status.Phase = v1alpha1.MigrationMoving
	g.follow(t.Context(), mg)
	if len(g.runs) != 0 {
		t.Error("a gate is asked while pods move")
	}
	g.wait()
}
