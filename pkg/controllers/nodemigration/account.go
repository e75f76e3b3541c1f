// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// whoAmI asks the API server for the service account that this program runs as; empty when it is none, as on a person's machine. Every
// user may ask that, and the answer does not depend on how the program was installed.
func whoAmI(ctx context.Context, c client.Client) (types.NamespacedName, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return types.NamespacedName{}, fmt.Errorf("asking the API server who this program is, %w", err)
	}
	account, ok := strings.CutPrefix(review.Status.UserInfo.Username, "system:serviceaccount:")
	namespace, name, both := strings.Cut(account, ":")
	if !ok || !both {
		return types.NamespacedName{}, nil
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}
