package leader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcoordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

const (
	// Path is where a leader tells the end of its term.
	Path = "/term"
	// mostFollowers is how many may wait for it: there are few replicas, and a stranger is not to take all the memory.
	mostFollowers = 16
	// dialWithin bounds the dialling of the leader, which is in the same cluster.
	dialWithin = time.Second
	// followAgain is how soon a leader is dialled again whose stream has ended or never began, and the longest wait.
	followAgain, followSlowly = 100 * time.Millisecond, time.Second
)

// ServeHTTP answers, if this replica leads, when its term is over.
func (c *Candidate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	over, ok := c.hold()
	if !ok {
		http.Error(w, "this replica does not lead, or too many wait for the end of its term", http.StatusConflict)
		return
	}
	defer c.letGo()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // a term has no end that is known
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return // the reader went away
	}
	select {
	case <-over:
	case <-r.Context().Done():
	}
}

func (c *Candidate) hold() (over <-chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term == nil || c.held >= mostFollowers {
		return nil, false
	}
	c.held++
	return c.term, true
}

func (c *Candidate) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held--
}

// follower is what a replica that stands by knows of the leader.
type follower struct {
	name string    // of the leader's pod
	uid  types.UID // of the leader's pod
	ip   string
	seen bool // it has told that it leads
}

// follow waits while another replica leads and says true when there is reason to try at once: nobody holds the Lease. It returns
// false when ctx ends or this replica has acquired the Lease.
func (c *Candidate) follow(ctx context.Context, acquired func() bool) bool {
	var f follower
	wait := followAgain
	for c.cfg.Port != 0 {
		lease, err := c.cfg.Client.CoordinationV1().Leases(c.cfg.Namespace).Get(ctx, c.cfg.Lease, metav1.GetOptions{})
		if acquired() {
			return false
		}
		if err == nil {
			if holder(lease) == "" {
				return true
			}
			if f.name != holder(lease) {
				f, wait = follower{name: holder(lease)}, followAgain
			}
			if f.name != c.cfg.Identity {
				err = c.attend(ctx, &f, lease)
			}
		}
		switch {
		case errors.Is(err, errVacant):
			return true
		case errors.Is(err, errStreamed):
			wait = followAgain
		default:
			wait = min(2*wait, followSlowly)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	return false
}

var (
	errVacant   = errors.New("the Lease has been taken from a leader that has ended")
	errStreamed = errors.New("the leader has told the end of its term, or could not")
)

// attend waits at the leader for the end of its term. lease is how it was before. errVacant: the leader's process has ended without
// giving the Lease back, and it has been taken away.
func (c *Candidate) attend(ctx context.Context, f *follower, lease *coordinationv1.Lease) error {
	pod, err := c.cfg.Client.CoreV1().Pods(c.cfg.Namespace).Get(ctx, f.name, metav1.GetOptions{})
	gone := apierrors.IsNotFound(err)
	switch {
	case gone && f.uid == "":
		return fmt.Errorf("the leader %s is no pod of %s", f.name, c.cfg.Namespace)
	case err != nil && !gone:
		return err
	case err == nil && (pod.UID != f.uid || pod.Status.PodIP != f.ip):
		*f = follower{name: f.name, uid: pod.UID, ip: pod.Status.PodIP} // nothing is known of this one
	}
	if f.ip == "" {
		return fmt.Errorf("the leader %s has no address", f.name)
	}
	streamed, err := c.stream(ctx, f.ip)
	if streamed {
		f.seen = true
		return errStreamed // who holds the Lease now says what that means
	}
	why := ended(f, gone, pod, err)
	if why == "" || ctx.Err() != nil {
		return err
	}
	c.log.Info("taking the Lease from a leader that has ended", zap.String("leader", f.name), zap.String("evidence", why))
	if err := vacate(ctx, c.cfg.Client.CoordinationV1().Leases(c.cfg.Namespace), lease); err != nil {
		return err
	}
	return errVacant
}

// ended says what shows that the process of a leader has ended, empty: nothing does. dialled is why it cannot be reached; nil: it
// answers. A leader that was never seen to answer may be one that cannot be dialled at all.
func ended(f *follower, gone bool, pod *corev1.Pod, dialled error) string {
	switch {
	case dialled == nil || !f.seen:
		return ""
	case errors.Is(dialled, syscall.ECONNREFUSED):
		return "nobody listens at its address any more"
	case gone:
		return "its pod is gone and nobody answers"
	case terminated(pod):
		return "its container has ended"
	}
	return ""
}

// terminated says whether no container of a pod runs, as its kubelet has seen.
func terminated(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return true
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Terminated == nil && (s.State.Waiting == nil || s.LastTerminationState.Terminated == nil) {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) > 0
}

// stream waits at a replica for the end of its term; true when it has led. A nil error: it answers, but does not lead.
func (c *Candidate) stream(ctx context.Context, ip string) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(int(c.cfg.Port))) + Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	client := http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialWithin}).DialContext,
		ResponseHeaderTimeout: dialWithin, DisableKeepAlives: true,
	}}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if response.StatusCode != http.StatusOK {
		return false, nil
	}
	one := make([]byte, 1)
	_, _ = response.Body.Read(one) // nothing comes but the end, in order or not
	return true, nil
}

func holder(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// vacate makes nobody hold the Lease, if it is still as it was read.
func vacate(ctx context.Context, leases typedcoordination.LeaseInterface, lease *coordinationv1.Lease) error {
	lease = lease.DeepCopy()
	lease.Spec.HolderIdentity = nil
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("let go of Lease %s: %w", lease.Name, err)
	}
	return nil
}
