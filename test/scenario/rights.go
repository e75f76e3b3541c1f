// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
)

// right is a verb on a resource for one of Dovetail's service accounts; Namespace is "" for all.
type right struct{ Account, Namespace, Group, Resource, Verb string }

// asRight takes get, list and watch for one right: what a client's cache reads, the library gets as it likes. Since Kubernetes 1.34 a
// watch alone does.
func asRight(verb string) string {
	if slices.Contains([]string{"get", "list", "watch"}, verb) {
		return "read"
	}
	return verb
}

func (r right) String() string {
	resource := r.Resource
	if r.Group != "" {
		resource += "." + r.Group
	}
	where := ""
	if r.Namespace != "" {
		where = " in " + r.Namespace
	}
	return fmt.Sprintf("%s: %s %s%s", r.Account, r.Verb, resource, where)
}

// UnusedRights returns what the chart's roles allow and nobody has asked the API server for since the sandbox is up, as "controller:
// patch nodes"; to get, list or watch is to read.
func (s *Sandbox) UnusedRights(ctx context.Context) ([]string, error) {
	used, err := s.usedRights()
	if err != nil {
		return nil, err
	}
	given, err := s.givenRights(ctx)
	if err != nil {
		return nil, err
	}
	var unused []string
	for _, r := range given {
		if !slices.ContainsFunc(used, r.covers) {
			unused = append(unused, r.String())
		}
	}
	slices.Sort(unused)
	return slices.Compact(unused), nil
}

// covers tells whether a request is one that the right allows.
func (r right) covers(request right) bool {
	if r.Namespace == "" {
		request.Namespace = ""
	}
	return r == request
}

// usedRights are what the API server has allowed.
func (s *Sandbox) usedRights() ([]right, error) {
	file, err := os.Open(filepath.Join(s.opts.Dir, "logs", controlplane.AuditLog))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	used := map[right]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			continue // the last line of a log that is being written
		}
		if o := event.ObjectRef; o != nil && event.Annotations["authorization.k8s.io/decision"] == "allow" {
			resource := o.Resource
			if o.Subresource != "" {
				resource += "/" + o.Subresource
			}
			used[right{strings.TrimPrefix(event.User.Username, sandbox.ServiceAccountPrefix), o.Namespace, o.APIGroup, resource, asRight(event.Verb)}] = true
		}
	}
	var list []right
	for r := range used {
		list = append(list, r)
	}
	return list, lines.Err()
}

// givenRights are those of the roles that are bound to Dovetail's service accounts.
func (s *Sandbox) givenRights(ctx context.Context) ([]right, error) {
	var clusterRoles rbacv1.ClusterRoleBindingList
	var roles rbacv1.RoleBindingList
	for _, list := range []client.ObjectList{&clusterRoles, &roles} {
		if err := s.Kube.List(ctx, list); err != nil {
			return nil, err
		}
	}
	var given []right
	for _, b := range clusterRoles.Items {
		for _, account := range accounts(b.Subjects) {
			var role rbacv1.ClusterRole
			if err := s.Kube.Get(ctx, client.ObjectKey{Name: b.RoleRef.Name}, &role); err != nil {
				return nil, err
			}
			given = append(given, rightsOf(account, "", role.Rules)...)
		}
	}
	for _, b := range roles.Items {
		for _, account := range accounts(b.Subjects) {
			var role rbacv1.Role
			if err := s.Kube.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: b.RoleRef.Name}, &role); err != nil {
				return nil, err
			}
			given = append(given, rightsOf(account, b.Namespace, role.Rules)...)
		}
	}
	return given, nil
}

// accounts are those of Dovetail, without their prefix.
func accounts(subjects []rbacv1.Subject) (names []string) {
	for _, subject := range subjects {
		user := "system:serviceaccount:" + subject.Namespace + ":" + subject.Name
		if name, ok := strings.CutPrefix(user, sandbox.ServiceAccountPrefix); ok && subject.Kind == rbacv1.ServiceAccountKind {
			names = append(names, name)
		}
	}
	return names
}

func rightsOf(account, namespace string, rules []rbacv1.PolicyRule) (rights []right) {
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights = append(rights, right{account, namespace, group, resource, asRight(verb)})
				}
			}
		}
	}
	return rights
}
