package peering

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestMisfitStatus: the status names the first fifty, and does not change while nothing does.
func TestMisfitStatus(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	g := governed{all: 80}
	for i := range 60 {
		g.wrong = append(g.wrong, misfit{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%02d", i)}}, "no longer"})
	}
	p := &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	p.Status = g.status(p, "", now)
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionFits)
	if c == nil || c.Reason != v1alpha1.ReasonMisfits || p.Status.MisfitCount != 60 || len(p.Status.Misfits) != v1alpha1.MaxMisfits || p.Status.RemotePods != 80 {
		t.Errorf("status: %+v", p.Status)
	}
	later := g.status(p, "", metav1.NewTime(now.Add(time.Hour)))
	if c := meta.FindStatusCondition(later.Conditions, v1alpha1.ConditionFits); !c.LastTransitionTime.Equal(&now) {
		t.Errorf("an hour later the condition has changed at %s", c.LastTransitionTime)
	}
	p.Status = governed{all: 80}.status(p, "", now)
	if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionFits) || p.Status.Misfits != nil {
		t.Errorf("all fit: %+v", p.Status)
	}
	p.Status = governed{}.status(p, "spec.podSelector cannot be read", now)
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionFits); c.Reason != v1alpha1.ReasonSelectorInvalid {
		t.Errorf("a selector that cannot be read: %+v", c)
	}
}

func TestWishedName(t *testing.T) {
	for name, row := range map[string]struct {
		remote *v1alpha1.RemoteNamespace
		want   string
	}{
		"no wish":  {nil, "shop"},
		"suffixed": {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSuffixed}, ""},
		"the same": {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingSameIfFree}, "shop"},
		"chosen":   {&v1alpha1.RemoteNamespace{Naming: v1alpha1.RemoteNamingChosen, Name: "acme-shop"}, "acme-shop"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := wishedName("shop", wish(row.remote)); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
	if (tenant{share: v1alpha1.Share{NamespaceNames: v1alpha1.NamespaceNamesSameIfFree}}).mayShare(wishedName("shop", "Chosen/../x")) {
		t.Error("a wish that is no name is granted")
	}
}
