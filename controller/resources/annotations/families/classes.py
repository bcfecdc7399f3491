"""Which Ingresses are ours. Read by their kinds, not as features."""

from controller.resources.annotations.annotation import Annotation, Family

CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"

FAMILY = Family(
    "Classes",
    (
        Annotation(CLASS, values="name of an IngressClass", says="used where `spec.ingressClassName` is absent"),
        Annotation(
            DEFAULT_CLASS,
            applies_to="IngressClass",
            values='`"true"`',
            says="of an IngressClass: objects without a class are of this one",
        ),
    ),
)
