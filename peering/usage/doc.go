// Package usage tells tenants what their pods use, as this cluster's kubelets print it.
//
// A kubelet's figures are about a whole node, so no tenant may ask a kubelet: this package asks them with the rights of spillwayd, at
// most once per interval for all tenants and readers and only while somebody asks, keeps the lines about tenants' pods, and answers
// each tenant with its own. It changes no figure, name or timestamp; what twins are called at home is the consumer's business.
//
// Tenants come through the API server's proxy for Services, which takes away their Authorization; they repeat the token in another header:
//
//	GET /api/v1/namespaces/spillway-system/services/https:spillway-usage:usage/proxy/v1/resource
//	Spillway-Authorization: Bearer …
package usage
