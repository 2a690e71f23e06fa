// Package policy says what the OffloadPolicies and Migrations of a namespace mean for its pods. It knows no client, clock or global: every
// function is pure and safe for concurrent use.
//
//	set := policy.NewSet(policies, migrations)      // those of one namespace
//	why := set.Closed(namespace)                    // empty: its pods may leave
//	steered, ok := set.Steer(pod)                   // at admission
//	verdict := set.Judge(namespace, pod, place)     // once it has a virtual node
package policy
