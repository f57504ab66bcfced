"""Whether a changed model is as good as the one that it was made from, and better in what was asked: measured, told, judged.

``case.open_case`` reads rows and the original; ``Case.score`` looks at a candidate quickly, ``Case.conclude`` measures it
beside the original and judges it; ``publish.publish`` puts the model and its report in place, or refuses to.
"""
