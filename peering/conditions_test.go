package peering

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// borrowing is a consumer's observation when all is well.
func borrowing(change ...func(*observation)) observation {
	o := observation{
		self: "id-home", generation: 3, hasNode: true, node: NodeState{Registered: true},
		spec: v1alpha1.PeeringSpec{
			ClusterID: "id-cloud", Borrow: &v1alpha1.Borrow{},
			API: &v1alpha1.APIEndpoint{Server: "https://cloud:6443", SecretName: "peering-cloud", PeeringName: "home"},
		},
		link: linkState{answered: true, remote: &v1alpha1.Peering{
			Spec:   v1alpha1.PeeringSpec{ClusterID: "id-home", Share: &v1alpha1.Share{}},
			Status: v1alpha1.PeeringStatus{ClusterID: "id-cloud", Offer: list("1", "1Gi")},
		}},
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func sharing(err error) observation {
	return observation{spec: v1alpha1.PeeringSpec{ClusterID: "id-home", Share: &v1alpha1.Share{}}, tenantErr: err}
}

func TestConditions(t *testing.T) {
	unknown := func(o *observation) { o.link = linkState{}; o.hasNode, o.node = false, NodeState{} }
	for name, row := range map[string]struct {
		seen observation
		want map[string]string // type: status and reason
		says string            // part of the message of Ready
	}{
		"a consumer, all is well": {seen: borrowing(), want: map[string]string{
			"Authenticated": "True Authenticated", "NodeReady": "True NodeReady", "Ready": "True PeeringReady",
		}},
		"a consumer that has just started": {seen: borrowing(unknown), want: map[string]string{
			"Authenticated": "Unknown Starting", "NodeReady": "Unknown Starting", "Ready": "Unknown Starting",
		}, says: "https://cloud:6443"},
		"the Secret is not there": {
			seen: borrowing(unknown, func(o *observation) { o.linkErr = errCredentialMissing }),
			want: map[string]string{"Authenticated": "False CredentialMissing", "NodeReady": "Unknown Starting", "Ready": "False CredentialMissing"},
			says: "spillway peer again",
		},
		"the peer does not know the credential": {
			seen: borrowing(func(o *observation) { o.link.err = apierrors.NewUnauthorized("no") }),
			want: map[string]string{"Authenticated": "False CredentialRejected", "NodeReady": "True NodeReady", "Ready": "False CredentialRejected"},
			says: "spillway-system/peering-cloud",
		},
		"the peer denies a right": {
			seen: borrowing(func(o *observation) {
				o.link.err = apierrors.NewForbidden(v1alpha1.PeeringResource.GroupResource(), "home", errors.New("no"))
			}),
			want: map[string]string{"Authenticated": "False Forbidden", "NodeReady": "True NodeReady", "Ready": "False Forbidden"},
		},
		"the peer has never answered": {
			seen: borrowing(unknown, func(o *observation) { o.link.err = errors.New("connection refused") }),
			want: map[string]string{"Authenticated": "Unknown Unreachable", "NodeReady": "Unknown Starting", "Ready": "Unknown Unreachable"},
			says: "connection refused",
		},
		"the peer no longer answers": {
			seen: borrowing(func(o *observation) { o.link.lost, o.link.err = true, errors.New("connection refused") }),
			want: map[string]string{"Authenticated": "True Authenticated", "NodeReady": "False Unreachable", "Ready": "False Unreachable"},
			says: "pods there run on",
		},
		"one probe went wrong": {
			seen: borrowing(func(o *observation) { o.link.err = errors.New("timeout") }),
			want: map[string]string{"Authenticated": "True Authenticated", "NodeReady": "True NodeReady", "Ready": "True PeeringReady"},
		},
		"another cluster answers": {
			seen: borrowing(func(o *observation) { o.link.remote.Status.ClusterID = "id-third" }),
			want: map[string]string{"Authenticated": "False WrongCluster", "NodeReady": "True NodeReady", "Ready": "False WrongCluster"},
			says: "id-third",
		},
		"the peer takes us for another": {
			seen: borrowing(func(o *observation) { o.link.remote.Spec.ClusterID = "id-third" }),
			want: map[string]string{"Authenticated": "False WrongCluster", "NodeReady": "True NodeReady", "Ready": "False WrongCluster"},
		},
		"the peer offers nothing yet": {
			seen: borrowing(func(o *observation) { o.hasNode, o.node, o.link.remote.Status.Offer = false, NodeState{}, nil }),
			want: map[string]string{"Authenticated": "True Authenticated", "NodeReady": "False NoOffer", "Ready": "False NoOffer"},
			says: "look at Peering home there",
		},
		"home refuses the node": {
			seen: borrowing(func(o *observation) { o.node = NodeState{Err: errors.New("node name is taken")} }),
			want: map[string]string{"Authenticated": "True Authenticated", "NodeReady": "False NodeFailed", "Ready": "False NodeFailed"},
			says: "node name is taken",
		},
		"a provider, all is well": {seen: sharing(nil), want: map[string]string{"TenantReady": "True TenantReady", "Ready": "True PeeringReady"}},
		"a provider that cannot make the tenant": {
			seen: sharing(errors.New("namespace exists")), says: "namespace exists",
			want: map[string]string{"TenantReady": "False TenantFailed", "Ready": "False TenantFailed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for _, c := range conditions(nil, row.seen) {
				got[c.Type] = string(c.Status) + " " + c.Reason
				if c.ObservedGeneration != row.seen.generation {
					t.Errorf("%s is of generation %d, want %d", c.Type, c.ObservedGeneration, row.seen.generation)
				}
				if c.Message == "" || c.Type == v1alpha1.ConditionReady && !strings.Contains(c.Message, row.says) {
					t.Errorf("%s says %q, want %q", c.Type, c.Message, row.says)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditions_TimesAreThoseOfChanges(t *testing.T) {
	long := metav1.NewTime(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	before := conditions(nil, borrowing())
	for i := range before {
		before[i].LastTransitionTime = long
	}
	kept := conditions(before, borrowing())
	if diff := cmp.Diff(before, kept); diff != "" {
		t.Errorf("nothing changed (-before +now):\n%s", diff)
	}
	lost := conditions(before, borrowing(func(o *observation) { o.link.lost = true }))
	if meta.FindStatusCondition(lost, v1alpha1.ConditionNodeReady).LastTransitionTime.Equal(&long) {
		t.Error("NodeReady changed, but not its time")
	}
	if !meta.FindStatusCondition(lost, v1alpha1.ConditionAuthenticated).LastTransitionTime.Equal(&long) {
		t.Error("Authenticated did not change, but its time did")
	}
	if !meta.IsStatusConditionTrue(before, v1alpha1.ConditionNodeReady) {
		t.Error("conditions changed its argument")
	}
}

// TestConditions_OfARoleThatIsGone: what no longer applies is no longer shown.
func TestConditions_OfARoleThatIsGone(t *testing.T) {
	before := conditions(nil, sharing(nil))
	if got := conditions(before, borrowing()); meta.FindStatusCondition(got, v1alpha1.ConditionTenantReady) != nil {
		t.Errorf("a Peering that no longer shares still has TenantReady: %v", got)
	}
}

// TestSettling: after a restart, what the process before wrote stands until this one has looked, or has failed to.
func TestSettling(t *testing.T) {
	start := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	borrow := v1alpha1.PeeringSpec{Borrow: &v1alpha1.Borrow{}}
	rows := map[string]struct {
		seen  observation
		after time.Duration
		want  bool
	}{
		"nothing has answered yet":          {observation{spec: borrow, link: linkState{started: start}}, time.Second, true},
		"nothing has answered for too long": {observation{spec: borrow, link: linkState{started: start}}, time.Minute, false},
		"the first answer is an error":      {observation{spec: borrow, link: linkState{started: start, err: errCredentialMissing}}, time.Second, false},
		"the node is being registered": {
			observation{spec: borrow, link: linkState{started: start, answered: true, remote: &v1alpha1.Peering{}}}, time.Second, true,
		},
		"all is as it was": {
			observation{
				spec: borrow, node: NodeState{Registered: true},
				link: linkState{started: start, answered: true, remote: &v1alpha1.Peering{}},
			}, time.Second, false,
		},
		"only sharing": {observation{link: linkState{started: start}}, time.Second, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if got := row.seen.settling(start.Add(row.after)); got != row.want {
				t.Errorf("settling is %v, want %v", got, row.want)
			}
		})
	}
}
